"""The tolerance of a block's output, measured with a float64 copy of the block.

The readers' error bound is added to the pre-activations as Gaussian noise, and the effect on the output is measured. The
alternative, that bound times a Lipschitz constant, would ignore the rounding of the bypass (the residual stream), and in
bfloat16 it would be so loose that the test passes without any update.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.mixture import MixtureOfExperts
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.exactness.tolerance import DRAWS, SPREAD, Comparison, precision, reader_bound, round_off


@dataclasses.dataclass(frozen=True)
class Transferred:
    """One application of Theorem 2.2: two reads and the update between them.

    Attributes:
        query: `x (…, d)`.
        base: the read with the reduced context `C∖Y`.
        full: the read with the full context `C`.
        update: the update that maps `base` to `full`.
    """

    query: Tensor
    base: Read
    full: Read
    update: ImplicitUpdate

    def double(self) -> "Transferred":
        """The stored values, converted to float64."""
        op, up = self.update.operator, self.update
        operator = ContextOperator(op.direction.double(), op.key.double(), _double(op.offset))
        update = dataclasses.replace(up, operator=operator, shift=_double(up.shift), carrier=_double(up.carrier))
        return Transferred(self.query.double(), _double_read(self.base), _double_read(self.full), update)


def _double(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.double()


def _double_read(read: Read) -> Read:
    return Read(read.z.double(), _double(read.bypass))


@contextlib.contextmanager
def adding(noise: Mapping[str, Tensor], readers: Mapping[str, nn.Linear]) -> Iterator[None]:
    """A context in which each reader adds its noise to its output."""

    def hook(added: Tensor) -> Callable[[nn.Module, object, Tensor], Tensor]:
        return lambda module, inputs, output: output + added

    handles = [reader.register_forward_hook(hook(noise[name])) for name, reader in readers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Measure:
    """The tolerance of one block's output (docs/theory.md, "How equal is equal").

    The tolerance of a row is the sum of three terms, each the largest over the row's entries: `3 ×` the largest
    `|f₆₄(p + Bξ, r + Jξ') − f₆₄(p, r)|` over 8 Gaussian draws, `3 ×` the error of the direct run (the block on the full
    context) against float64 at the same reads, and `4u max|out|`. Here `f₆₄(p, r)` is the rest of the block as a function of
    the readers' pre-activations `p` and the bypass `r`, `B` is the readers' bound at `c = 1`, and `J = u(|r| + |r'| + |Δb'|)`.

    At the site `"out-proj"` the only reader is the layer's output projection, `f₆₄` is everything after it, and there is no
    `r`. If the shift is carried by the last dense layer or by the post-norm's scale, it is multiplied by an activation of the
    network; the draws are then repeated around the run with the update, and `J` includes the `m` products of the last layer.

    If a mixture's router is near a tie, rounding may choose other experts, and no bound holds. The tolerance of the router's
    logits is therefore measured like that of outputs. A row is not counted if the choices differ and the smallest gap between
    a chosen and another logit is within the two logits' tolerances. Draws with another choice are dropped, and a row is not
    counted if none remains.

    Args:
        block: the block, in the dtype under test.
        seed: seed of the draws.
    """

    def __init__(self, block: ContextualBlock, seed: int = 0) -> None:
        self.block = block
        self.exact = copy.deepcopy(block).double()
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def outputs(
        self,
        used: Transferred,
        got: Tensor,  # (…, d), the output with the update
        wanted: Tensor,  # (…, d), the output of the direct run
        without: Tensor | None = None,  # (…, d), the output for the reduced context without the update
        off: Tensor | None = None,  # (…, d)
    ) -> Comparison:
        """Compare the output with the update to that of the direct run.

        If `without` is given, the comparison has a scale for relative errors. `off` is an additional error bound of the
        read, such as that of a chain of operators.
        """
        exact = used.double()
        noise = self._noise(used, off)
        jitter = self._jitter(used)
        clean, clean_logits = self._direct(exact, None, None)
        moved, logits = self._direct(exact, noise, jitter)
        change = (moved - clean).abs().amax(-1)  # (8, …)
        if used.update.shift is not None and used.update.place != "output-bias":
            change = torch.maximum(change, self._updated_change(exact, noise))
        same, counted = self._choices(used, clean_logits, logits)
        spread = torch.where(same, change, 0).amax(0)
        site = self.block.site(used.update.site)
        direct = site.complete(used.query, used.full, None)  # from the stored read: the layer is not called again
        own = (direct.double() - clean).abs().amax(-1)
        unit = round_off(wanted.dtype)
        tolerance = SPREAD * (spread + own) + 4 * unit * wanted.double().abs().amax(-1)
        scale = None if without is None else self.scale(used, wanted, without)
        return Comparison((got.double() - wanted.double()).abs().amax(-1), tolerance, counted, scale)

    def scale(self, used: Transferred, wanted: Tensor, without: Tensor) -> Tensor:  # (…)
        """The size to which relative errors refer: `max(‖out‖, ‖out without update‖, ‖W_down‖‖W‖‖z‖)`."""
        network = self.exact.network
        readers = torch.cat([reader.weight for reader in network.readers.values()])
        down = torch.cat([m.weight for name, m in network.named_modules() if _is_last(name, m)], dim=-1)
        through = torch.linalg.matrix_norm(down, 2) * torch.linalg.matrix_norm(readers, 2)
        lengths = [
            wanted.double().norm(dim=-1),
            without.double().norm(dim=-1),
            through * used.base.z.double().norm(dim=-1),
        ]
        return torch.stack(lengths).amax(0)

    def _noise(self, used: Transferred, off: Tensor | None) -> dict[str, Tensor]:  # (8, …, m) each
        noise = {}
        for name, reader in self.exact.site(used.update.site).readers().items():
            bound = reader_bound(reader, used.base.z, used.full.z, used.update.operator)
            bound = bound if off is None else bound + off @ reader.weight.abs().mT
            noise[name] = bound * self._gaussian(bound)
        return noise

    def _gaussian(self, like: Tensor) -> Tensor:  # (…) -> (8, …)
        drawn = torch.randn((DRAWS, *like.shape), generator=self._generator, dtype=torch.float64)
        return drawn.to(like.device)

    def _jitter(self, used: Transferred) -> Tensor | None:  # (8, …, d)
        update = used.update
        if used.base.bypass is None or used.full.bypass is None or update.shift is None:
            return None
        unit = precision(update.shift.dtype, update.shift.device)
        terms = update.carrier.shape[-1] if update.place == "last-layer" and update.carrier is not None else 0
        still = unit.product * (used.base.bypass.double().abs() + used.full.bypass.double().abs())
        bound = still + unit.of_dot(terms) * update.shift.double().abs()
        return bound * self._gaussian(bound)

    def _direct(
        self, exact: Transferred, noise: dict[str, Tensor] | None, jitter: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:  # (8, …, d), (8, …, experts); without noise there is no axis of draws
        """`f₆₄` and the router's logits at the full read, with noise if given."""
        site, read = exact.update.site, exact.full
        if noise is None:
            return self._run(exact.query, read, exact.update, None)
        bypass = _some(read.bypass) if jitter is None or read.bypass is None else read.bypass + jitter
        with adding(noise, self.exact.site(site).readers()):
            return self._run(_draws(exact.query), Read(_draws(read.z), bypass), exact.update, None)

    def _run(
        self, query: Tensor, read: Read, update: ImplicitUpdate, applied: ImplicitUpdate | None
    ) -> tuple[Tensor, Tensor | None]:
        output = self.exact.site(update.site).complete(query, read, applied)
        network = self.exact.network
        if not isinstance(network, MixtureOfExperts):
            return output, None
        return output, network.router(self.exact.site(update.site).network_input(query, read, applied))

    def _updated_change(self, exact: Transferred, noise: dict[str, Tensor]) -> Tensor:  # (8, …)
        """The effect of the noise on the output of the run with the update."""
        calm, _ = self._run(exact.query, exact.base, exact.update, exact.update)
        with adding(noise, self.exact.site(exact.update.site).readers()):
            wide = Read(_draws(exact.base.z), _some(exact.base.bypass))
            moved, _ = self._run(_draws(exact.query), wide, exact.update, exact.update)
        return (moved - calm).abs().amax(-1)

    def _choices(
        self, used: Transferred, clean: Tensor | None, noisy: Tensor | None
    ) -> tuple[Tensor, Tensor]:  # (8, …) bool, (…) bool
        """Which draws choose the same experts as the run without noise, and which rows are counted."""
        network = self.block.network
        if clean is None or noisy is None or not isinstance(network, MixtureOfExperts):
            shape = used.full.z.shape[:-1]
            return torch.ones(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)
        sets = chosen_sets(clean, network.active)
        same = (chosen_sets(noisy, network.active) == sets).all(-1)
        site = self.block.site(used.update.site)
        direct = site.network_input(used.query, used.full, None)
        patched = site.network_input(used.query, used.base, used.update)
        flipped = [(network.chosen(z).sort(-1).values != sets).any(-1) for z in (direct, patched)]
        own = (network.router(direct).double() - clean).abs().amax(-1)
        off = SPREAD * ((noisy - clean).abs().amax((0, -1)) + own) + 4 * round_off(direct.dtype) * clean.abs().amax(-1)
        near_tie = (flipped[0] | flipped[1]) & (gap(clean, network.active) <= 2 * off)
        return same, same.any(0) & ~near_tie


def _draws(value: Tensor) -> Tensor:  # (…, d) -> (8, …, d)
    return value.expand(DRAWS, *value.shape)


def _some(value: Tensor | None) -> Tensor | None:
    return None if value is None else _draws(value)


def _is_last(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and name.split(".")[-1] == "down"


def chosen_sets(logits: Tensor, active: int) -> Tensor:  # (…, experts) -> (…, active)
    """The indices of the `active` largest logits, in increasing order."""
    return logits.topk(active, dim=-1).indices.sort(-1).values


def gap(logits: Tensor, active: int) -> Tensor:  # (…, experts) -> (…)
    """The smallest chosen logit minus the largest logit that is not chosen; infinite if all are chosen."""
    ordered = logits.sort(-1, descending=True).values
    if active == logits.shape[-1]:
        return torch.full_like(ordered[..., 0], torch.inf)
    return ordered[..., active - 1] - ordered[..., active]
