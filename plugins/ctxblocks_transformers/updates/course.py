"""Probes measure updates along a generation."""

import dataclasses
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ctxblocks import ArgumentError, ContextOperator, ImplicitUpdate, Probe, registry
from ctxblocks.numerics import widen
from ctxblocks_transformers.wiring.effective import effective_weights
from ctxblocks_transformers.wiring.sites import Site


@dataclasses.dataclass(frozen=True, eq=False)
class Course:
    """The updates of one block along a generation and the weights that they change, in the form that a `Probe` measures.

    Attributes:
        updates: `(steps, d)`.
        site: the site of the updates.
    """

    updates: ImplicitUpdate
    site: Site

    def weights(self, reader: str | None = None) -> list[Tensor]:  # (m, d) each
        """The weights that read the site's input, or the one at a path in the layer; the experts of a mixture are stacked.

        Raises:
            ArgumentError: no reader has that path.
        """
        stored = {
            path: each.matrices() for path, each in self.site.block.weights(*self.site.block.spec.readers).items()
        }
        readers = effective_weights(self.site) or stored
        if reader is not None and reader not in readers:
            raise ArgumentError(f"reader: got {reader!r}, needs one of {', '.join(map(repr, readers))}")
        return [_matrix(each) for path, each in readers.items() if reader in (None, path)]


def monitor(
    sites: Sequence[Site], updates: Sequence[ImplicitUpdate | None], steps: int, names: Iterable[str] | None
) -> dict[str, Tensor]:  # (blocks, steps) or (blocks, steps - 1) each
    """Every probe on every block; a block that reads no other token counts as having zero updates."""
    known = registry()
    probes = [known.probe(name) for name in (known.probes if names is None else names)]
    if names is None:
        probes = [probe for probe in probes if probe.needs == "updates"]
    for probe in probes:
        if probe.needs != "updates":
            raise ArgumentError(
                f"probe {probe.name!r}: measures a trial of prompts with targets, needs to be one of updates alone for a "
                f"generation; leave it out"
            )
    courses = [_course(site, update, steps) for site, update in zip(sites, updates, strict=True)]
    with torch.no_grad():
        return {probe.name: torch.stack([_measured(probe, each, steps) for each in courses]) for probe in probes}


def _course(site: Site, update: ImplicitUpdate | None, steps: int) -> Course:
    if update is None:
        weight = site.block.weights(site.block.spec.readers[0]).popitem()[1].matrices()
        nothing = torch.zeros(steps, weight.shape[-1], dtype=weight.dtype, device=weight.device)
        update = ImplicitUpdate(ContextOperator.identity(widen(nothing)), widen(nothing), per_token=True)
    return Course(update, site)


def _measured(
    probe: Probe, course: Course, steps: int
) -> Tensor:  # (steps,), or (steps - 1,) between successive updates
    values = torch.as_tensor(probe.measure(course)).detach().double().cpu()
    if tuple(values.shape) == (steps - 1,):  # of successive updates
        return values
    if tuple(values.shape) not in ((), (steps,)):
        raise ArgumentError(
            f"probe {probe.name!r}: measured shape {tuple(values.shape)}, needs ({steps},), a number for each step, "
            f"({steps - 1},) between steps, or one number"
        )
    return values.expand(steps)


def _matrix(weights: Tensor) -> Tensor:  # (…, m, d) -> (m, d)
    matrices = widen(weights.detach())
    return matrices.reshape(-1, matrices.shape[-1])
