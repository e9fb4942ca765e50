"""Solvers: each chooses one key `k` among all those that give the same output [Rem. 2.4].

Every solver returns `k` (and an offset `β`) with `kᵀz + β = 1` at the read `z = A(C∖Y, x)`, so that
`z + δ(kᵀz + β) = z + δ = A(C, x)`.
"""

import abc
import dataclasses

import torch
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.checks import check_like, readable
from ctxblocks.base.errors import DegenerateQueryError, ShapeError, SingularOperatorError
from ctxblocks.base.records import record
from ctxblocks.numerics import scaled, widen


class Solver(abc.ABC):
    """A rule that chooses the key; `solve` computes the operator from two network inputs."""

    @abc.abstractmethod
    def key(
        self,
        z: Tensor,  # (…, d)
    ) -> tuple[Tensor, Tensor | None, Tensor]:  # (…, d), (…) or None, (…) bool
        """`k`, `β`, and a mask that is True where no key exists; there `k` may hold any value."""

    def solve(self, base: Tensor, full: Tensor, check: bool = True) -> ContextOperator:
        """The operator that maps `base` to `full`, both `(…, d)`; a `base` with one row is broadcast, and its key computed once.

        Raises:
            DegenerateQueryError: no key exists for a row where the two differ (inside a transform the key is NaN).
        """
        direction = full - base
        key, offset, absent = self.key(base)
        if not check or not readable(base, full):
            unsolvable = absent & (direction != 0).any(-1)
            key = torch.where(
                absent.unsqueeze(-1), torch.where(unsolvable, torch.nan, 0.0).unsqueeze(-1).to(key.dtype), key
            )
        elif bool(absent.any()):
            self._refuse(absent & (direction != 0).any(-1))
            key = torch.where(absent.unsqueeze(-1), 0, key)
        return ContextOperator(
            direction, key.expand_as(direction), None if offset is None else offset.expand(direction.shape[:-1])
        )

    def _refuse(self, unsolvable: Tensor) -> None:  # (…) bool
        if bool(unsolvable.any()):
            raise DegenerateQueryError(
                f"query: the read without the removed context is zero (or too small to invert) for {int(unsolvable.sum())} of "
                f"{unsolvable.numel()} queries and the context changes it, needs a non-zero read for {type(self).__name__}(); "
                f"pass solver=Augmented(), which always has an exact update"
            )


@dataclasses.dataclass(frozen=True)
class LeastNorm(Solver):
    """`k = z / ‖z‖²`: the update of least Frobenius norm [Thm. 2.2, Eq. 1]. Degenerate at `z = 0`."""

    def key(
        self,
        z: Tensor,  # (…, d)
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """`z / ‖z‖²`, computed from `y = z / max|z|`, so that no square over- or underflows."""
        y, scale = scaled(z)
        zero = scale == 0
        squares = torch.where(zero, 1, (y * y).sum(-1, keepdim=True))
        key = (y / squares / torch.where(zero, 1, scale)).to(z.dtype)
        return key, None, zero.squeeze(-1) | ~torch.isfinite(key).all(-1)


@dataclasses.dataclass(frozen=True)
class Augmented(Solver):
    """Least norm of the change of `(W, b)` together: `k = z / (‖z‖² + 1)`, `β = 1 / (‖z‖² + 1)`. Never degenerate.

    It is `LeastNorm` for the input `[z; 1]`. The bias of each input projection changes by `β Wδ`; a projection without a
    bias gets one when the update is merged.
    """

    def key(
        self,
        z: Tensor,  # (…, d)
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """`k` and `β`, computed from `y = z / max(max|z|, 1)`."""
        y, scale = scaled(z, least=1.0)
        squares = (y * y).sum(-1, keepdim=True) + scale**-2
        key = (y / squares / scale).to(z.dtype)
        offset = (scale**-2 / squares).squeeze(-1).to(z.dtype)
        return key, offset, torch.zeros_like(offset, dtype=torch.bool)


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Metric(Solver):
    """`k = M⁻¹z / (zᵀM⁻¹z)`: the update of least `‖ΔW M^{1/2}‖_F`; `M = E[zzᵀ]` gives the key of rank-one model editing.

    Degenerate at `z = 0`, as `LeastNorm` (which is `M = I`) is.

    Attributes:
        matrix: `M (d, d)`, positive definite, in the dtype and on the device of the reads.
    """

    matrix: Tensor

    def key(
        self,
        z: Tensor,  # (…, d)
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """`M⁻¹z / (zᵀM⁻¹z)`, computed from a Cholesky factor of `M`.

        Raises:
            ShapeError: `M` is not `(d, d)`.
            SingularOperatorError: `M` is not positive definite (not checked inside a transform).
        """
        width = z.shape[-1]
        if self.matrix.shape != (width, width):
            raise ShapeError(
                f"matrix: got shape {tuple(self.matrix.shape)}, needs ({width}, {width}), the width of the read"
            )
        check_like("matrix", self.matrix, z, "the read")
        factor, failed = torch.linalg.cholesky_ex(widen(self.matrix))
        if readable(z) and bool(failed.any()):
            raise SingularOperatorError(
                "matrix: got one that is not positive definite, needs a symmetric positive definite M; add λI to it"
            )
        y, scale = scaled(z)
        zero = scale == 0
        solved = torch.cholesky_solve(y.unsqueeze(-1), factor).squeeze(-1)
        product = torch.where(zero, 1, (y * solved).sum(-1, keepdim=True))
        key = (solved / product / torch.where(zero, 1, scale)).to(z.dtype)
        return key, None, zero.squeeze(-1) | ~torch.isfinite(key).all(-1)
