"""Updates of all blocks, each measured in the already patched run of the tokens that stay."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ctxblocks import ContextOperator, ImplicitUpdate, Solver
from ctxblocks_transformers._hooks import Hooks, rows
from ctxblocks_transformers._reads import NETWORK, BlockReads, SiteView, outputs_of
from ctxblocks_transformers._view import ModelView


def derive(
    view: ModelView,
    sites: Sequence[SiteView],
    inputs: Mapping[str, Any],
    full: Sequence[BlockReads],  # of the tokens that stay, in the full run
    solvers: Sequence[Solver],
) -> tuple[list[ImplicitUpdate | None], Tensor]:
    """One forward pass over the tokens that stay: at every block the update is measured, and at once put in place.

    Each block is thus read behind blocks that are patched already, so that the rounding of those is taken up too.
    """
    found: list[ImplicitUpdate | None] = [None] * len(sites)
    with Hooks() as hooks:
        for i, site in enumerate(sites):
            if site.site:
                _Measured(site, full[i], solvers[i], found, i).install(hooks)
        output = view.model(**inputs)
    return found, outputs_of(output)


class _Measured:
    """One block of `derive`."""

    def __init__(
        self, site: SiteView, full: BlockReads, solver: Solver, found: list[ImplicitUpdate | None], index: int
    ) -> None:
        self.site, self.full, self.solver, self.found, self.index = site, full, solver, found, index
        self.base = BlockReads()

    def install(self, hooks: Hooks) -> None:
        """Measure and patch whenever the model is called."""
        if self.site.site == NETWORK:
            self.site.watch_bypass(hooks, self.base)
        if self.site.block.spec.wiring == "parallel" and self.site.site == NETWORK:
            hooks.after(self.site.block.module(self.site.block.spec.mixer), self._shift_only)
        else:
            self.site.at_entry(hooks, self._measure)
        if self.site.site == NETWORK:
            hooks.after(shifted(self.site), self._shift)

    def _measure(self, x: Tensor) -> Tensor:
        assert self.full.z is not None
        operator = self.solver.solve(wide(rows(x)), wide(self.full.z))
        shift = None
        if self.site.site == NETWORK:
            assert self.full.bypass is not None
            assert self.base.bypass is not None
            shift = wide(self.full.bypass) - wide(self.base.bypass)
        self.found[self.index] = ImplicitUpdate(operator, shift, self.site.site, per_token=True)  # type: ignore[arg-type]
        return patched(x, operator)

    def _shift_only(self, _: Tensor) -> None:
        assert self.full.bypass is not None
        assert self.base.bypass is not None
        shift = wide(self.full.bypass) - wide(self.base.bypass)
        self.found[self.index] = ImplicitUpdate(ContextOperator.identity(shift), shift, per_token=True)

    def _shift(self, x: Tensor) -> Tensor:
        update = self.found[self.index]
        assert update is not None
        return shift_rows(x, update.shift)


def shifted(site: SiteView) -> Any:
    """The module whose output takes the shift of the bypass."""
    spec = site.block.spec
    return site.block.module(spec.inner) if spec.inner else site.block.layer


def patched(
    x: Tensor,  # (…, d)
    operator: ContextOperator,  # (tokens, d)
) -> Tensor:  # (…, d)
    """`P x`, row by row, rounded once."""
    return operator.apply(wide(rows(x))).to(x.dtype).reshape(x.shape)


def shift_rows(
    x: Tensor,  # (…, d)
    shift: Tensor | None,  # (tokens, d)
) -> Tensor:  # (…, d)
    """`x + shift`, rounded once."""
    return x if shift is None else (wide(rows(x)) + shift).to(x.dtype).reshape(x.shape)


def wide(x: Tensor) -> Tensor:
    """Half types in float32: an update rounded to half a type's digits would not give back what it was made from."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
