"""Theorem 2.2 and Theorem B.2: two reads, with and without a part of the context, give the update that replaces it."""

import dataclasses

from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.algebra.solvers import Solver
from ctxblocks.base.checks import readable
from ctxblocks.base.errors import DegenerateQueryError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate, Place, Site
from ctxblocks.theorems.finite import check_differences, check_reads


def implicit_update(
    base: Read,  # (…, d): without `Y`
    full: Read,  # (…, d): with `Y`
    solver: Solver,
    *,
    check: bool = True,
    name: str = "block",
    rows: str = "row",
    module: nn.Module | None = None,
) -> tuple[ContextOperator, Tensor | None]:  # P (…, d), Δb' (…, d)
    """The operator `P` and the bias shift `Δb'` that map a read without `Y` to the read with it [Thm. 2.2, Thm. B.2].

    Theorem. Let a block's output be `T(C, x) = J(r_C, M(z_C))`, where the network `M` reads `z` through linear maps `W` only
    and `J` combines its output with the residual stream `r`. Let `z_{C∖Y} ≠ 0`, or `δ = z_C − z_{C∖Y} = 0`. With
    `k = z_{C∖Y} / ‖z_{C∖Y}‖²`, `P = I + δkᵀ` (`P = I` where `δ = 0`) and `Δb' = r_C − r_{C∖Y}`, the block with `W P`
    in place of every `W` and with `Δb'` added to its residual stream has the output `T(C, x)` for the context `C∖Y`.

    Proof. `P z_{C∖Y} = z_{C∖Y} + δ (kᵀz_{C∖Y}) = z_{C∖Y} + δ = z_C`, since `kᵀz_{C∖Y} = 1`. `M` uses `z` only
    in the products `W z`, so that the network with `W P` in place of every `W` returns `M(P z_{C∖Y}) = M(z_C)`. Also
    `r_{C∖Y} + Δb' = r_C`. Hence `J(r_{C∖Y} + Δb', M(P z_{C∖Y})) = J(r_C, M(z_C)) = T(C, x)`. ∎

    The proof uses only `kᵀz_{C∖Y} = 1` (with an offset, `kᵀz_{C∖Y} + β = 1`): every solver with this property is exact
    [Rem. 2.4]. A plain block has no `r`. A post-norm block adds `Δb'` before its last norm `N₂`, a sandwich block after it.
    In a parallel block `z` does not depend on the context: `P = I`, and the whole effect of the context is `Δb'`. Where
    `z_{C∖Y} = 0` and `δ ≠ 0` no linear map takes one to the other; the augmented solver, which also changes biases, does.

    Args:
        base: the read without `Y`; a single row is broadcast to the rows of `full`.
        full: the read with `Y`, of the same query.
        solver: chooses one of the exact updates.
        check: whether to check that all reads are finite and that `z_{C∖Y}` is not zero; not done inside a transform, or for
            tensors without values, where a degenerate query gives NaN.
        name: of the block, in error messages.
        rows: what the last batch axis of the reads counts, in error messages, such as `"prefix"`.
        module: the block; an error message names a parameter of it that is not finite.

    Returns:
        `P`, and `Δb'`, which is None for a block without a residual stream.

    Raises:
        NonFiniteError: a read, or the difference of the two, holds NaN or infinity.
        DegenerateQueryError: `z_{C∖Y}` is zero and `δ` is not.
    """
    checked = check and readable(base.z, full.z)
    if checked:
        check_reads(base, full, name, rows, module)
    operator = solver.solve(base.z, full.z, check) if full.depends else ContextOperator.identity(full.z)
    shift = None if base.bypass is None or full.bypass is None else full.bypass - base.bypass
    if checked:
        check_differences(operator.direction, shift, name)
    return operator, shift


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the update of a block is applied, and whether values are checked.

    Attributes:
        site: `"network"` or `"out-proj"`.
        place: the parameter that takes the bias shift, see `transfer`.
        check: whether to check values.
    """

    site: Site = "network"
    place: Place = "output-bias"
    check: bool = True

    def update(
        self, block: ContextualBlock, base: Read, full: Read, solver: Solver, number: int = 0, rows: str = "row"
    ) -> ImplicitUpdate:
        """The update of a block from its two reads, with the bias shift at its place.

        Args:
            block: the block.
            base: the read without `Y`.
            full: the read with `Y`.
            solver: chooses one of the exact updates.
            number: of the block in its stack, in error messages.
            rows: what the last batch axis of the reads counts, in error messages.

        Raises:
            NonFiniteError: a read holds NaN or infinity.
            DegenerateQueryError: the base read is zero, or no change at the place gives the bias shift.
        """
        operator, shift = implicit_update(
            base, full, solver, check=self.check, name=f"block {number}", rows=rows, module=block
        )
        if shift is None or self.place == "output-bias":
            return ImplicitUpdate(operator, shift, self.site, self.place)
        carrier, unsolvable, reason = block.carrier(self.place, base.z, operator, shift)
        if self.check and readable(base.z) and bool(unsolvable.any()):
            raise DegenerateQueryError(
                f"place: {reason} where the bias shift is not, needs it non-zero for {self.place!r}; use place='output-bias'"
            )
        return ImplicitUpdate(operator, shift, self.site, self.place, carrier)
