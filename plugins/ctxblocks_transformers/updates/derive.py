"""Updates of all blocks, each measured in the already patched run of the tokens that stay."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ctxblocks import ContextOperator, ImplicitUpdate, Solver
from ctxblocks_transformers.wiring.hooks import Hooks, rows
from ctxblocks_transformers.wiring.reads import NETWORK, BlockReads, SiteView, outputs_of
from ctxblocks_transformers.wiring.view import ModelView


def derive(
    view: ModelView,
    sites: Sequence[SiteView],
    inputs: Mapping[str, Any],
    full: Sequence[BlockReads],  # of the tokens that stay, in the full run
    solvers: Sequence[Solver],
    known: Sequence[ImplicitUpdate | None] | None = None,  # of the first tokens
) -> tuple[list[ImplicitUpdate | None], Tensor]:
    """One forward pass over the tokens that stay: at every block the update is measured, and at once put in place.

    Each block is thus read behind blocks that are patched already, so that the rounding of those is taken up too.
    Tokens whose updates are `known` get these; `full` and the updates returned are then those of the tokens behind them.
    """
    found: list[ImplicitUpdate | None] = [None] * len(sites)
    with Hooks() as hooks:
        for i, site in enumerate(sites):
            if site.site:
                _Measured(site, full[i], solvers[i], found, i, known[i] if known else None).install(hooks)
        output = view.model(**inputs)
    return found, outputs_of(output)


class _Measured:
    """One block of `derive`."""

    def __init__(
        self,
        site: SiteView,
        full: BlockReads,
        solver: Solver,
        found: list[ImplicitUpdate | None],
        index: int,
        known: ImplicitUpdate | None,
    ) -> None:
        self.site, self.full, self.solver, self.found, self.index = site, full, solver, found, index
        self.base, self.known = BlockReads(), known
        self.first = 0 if known is None else len(known.operator.key)

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
        operator = self.solver.solve(wide(rows(x))[self.first :], wide(self.full.z))
        shift = self._difference() if self.site.site == NETWORK else None
        return patched(x, self._placed(operator, shift).operator)

    def _shift_only(self, _: Tensor) -> None:
        shift = self._difference()
        self._placed(ContextOperator.identity(shift), shift)

    def _difference(self) -> Tensor:
        assert self.full.bypass is not None
        assert self.base.bypass is not None
        return wide(self.full.bypass) - wide(self.base.bypass)[self.first :]

    def _placed(self, operator: ContextOperator, shift: Tensor | None) -> ImplicitUpdate:
        """Keep what was measured, and return what all tokens get."""
        found = ImplicitUpdate(operator, shift, self.site.site, per_token=True)  # type: ignore[arg-type]
        self.found[self.index] = found
        self.all = found if self.known is None else joined([self.known, found])
        return self.all

    def _shift(self, x: Tensor) -> Tensor:
        return shift_rows(x, self.all.shift)


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


def on(device: torch.device, update: ImplicitUpdate) -> ImplicitUpdate:
    """The update on a device; itself where it is there."""
    if update.operator.key.device == device:
        return update
    op = update.operator
    moved = ContextOperator(*(None if x is None else x.to(device) for x in (op.direction, op.key, op.offset)))  # type: ignore[arg-type]
    return dataclasses.replace(update, operator=moved, shift=None if update.shift is None else update.shift.to(device))


def wide(x: Tensor) -> Tensor:
    """Half types in float32: an update rounded to half a type's digits would not give back what it was made from."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def joined(parts: Sequence[ImplicitUpdate]) -> ImplicitUpdate:
    """Updates of one block, token after token, as one update of all these tokens."""
    operators, first = [part.operator for part in parts], parts[0]
    operator = ContextOperator(
        torch.cat([each.direction for each in operators]),
        torch.cat([each.key for each in operators]),
        None if first.operator.offset is None else torch.cat([e.offset for e in operators if e.offset is not None]),
    )
    shifts = [part.shift for part in parts if part.shift is not None]
    return ImplicitUpdate(operator, torch.cat(shifts) if shifts else None, first.site, per_token=True)
