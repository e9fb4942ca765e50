"""Updates along a generation, as something that probes can measure."""

import dataclasses
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ctxblocks import ArgumentError, ContextOperator, ImplicitUpdate, Probe, registry
from ctxblocks_transformers.updates.derive import wide
from ctxblocks_transformers.wiring.reads import PROJECTION, SiteView
from ctxblocks_transformers.wiring.view import Weights


@dataclasses.dataclass(frozen=True, eq=False)
class Course:
    """The updates of one block, token after token, and the weights that they change: what a `Probe` measures.

    Attributes:
        updates: `(steps, d)`.
        site: the block, and where in it they go.
    """

    updates: ImplicitUpdate
    site: SiteView

    def weights(self, reader: str | None = None) -> list[Tensor]:  # (m, d) each
        """What the updates change, or the one of that path in the layer; the experts of a mixture one below the other.

        Raises:
            ArgumentError: no reader has that path.
        """
        found = self._readers()
        paths = [each.path for each in found]
        if reader is not None and reader not in paths:
            raise ArgumentError(f"reader: got {reader!r}, needs one of {', '.join(map(repr, paths))}")
        return [_matrix(each) for each in found if reader in (None, each.path)]

    def _readers(self) -> list[Weights]:
        block = self.site.block
        return [block.weights(block.spec.projection)] if self.site.site == PROJECTION else block.readers()


def monitor(
    sites: Sequence[SiteView], updates: Sequence[ImplicitUpdate | None], steps: int, names: Iterable[str] | None
) -> dict[str, Tensor]:  # (blocks, steps) each
    """Every probe on every block; a block that reads no other token has updates of zero."""
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


def _course(site: SiteView, update: ImplicitUpdate | None, steps: int) -> Course:
    if update is None:
        weight = site.block.readers()[0].matrices()
        nothing = torch.zeros(steps, weight.shape[-1], dtype=weight.dtype, device=weight.device)
        update = ImplicitUpdate(ContextOperator.identity(wide(nothing)), wide(nothing), per_token=True)
    return Course(update, site)


def _measured(probe: Probe, course: Course, steps: int) -> Tensor:  # (steps,)
    found = torch.as_tensor(probe.measure(course)).detach().double().cpu()
    if tuple(found.shape) not in ((), (steps,)):
        raise ArgumentError(
            f"probe {probe.name!r}: measured shape {tuple(found.shape)}, needs ({steps},), a number for each step, or one"
        )
    return found.expand(steps)


def _matrix(weights: Weights) -> Tensor:  # (m, d)
    matrices = wide(weights.matrices().detach())
    return matrices.reshape(-1, matrices.shape[-1])
