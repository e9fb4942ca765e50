"""The test cases of the suite: drawn examples of one layer, and the runner that draws them for a property."""

import copy
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import attrs
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from torch import Tensor

from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.exactness.dtypes import DTYPES
from ctxblocks.exactness.kinds import build_layer, make_layer
from ctxblocks.registration.specs import LayerSpec

CPU = torch.device("cpu")
WIDE = (torch.float64, torch.float32)
BATCHES = ((), (1,), (2,), (3,), (2, 2))
MOST_TOKENS = 6


@attrs.frozen(kw_only=True, slots=False)
class Case:
    """One drawn example: a layer, a query and a context, all determined by the seed.

    Attributes:
        spec: specification of the layer under test.
        config: one of the layer's example configurations.
        dtype: dtype of the layer and of every tensor.
        device: device of the layer and of every tensor.
        batch: leading dimensions of query and context.
        tokens: `n`, the length of the context.
        seed: seed of all random numbers.
    """

    spec: LayerSpec
    config: Any
    dtype: torch.dtype
    device: torch.device
    batch: tuple[int, ...]
    tokens: int
    seed: int

    def __repr__(self) -> str:
        """The line that a failure prints."""
        return (
            f"Case(layer={self.spec.name!r}, config={self.config!r}, dtype={self.dtype}, device={str(self.device)!r}, "
            f"batch={self.batch}, tokens={self.tokens}, seed={self.seed})"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The same line for hypothesis, which would otherwise list the attributes one by one."""
        printer.text(repr(self))

    @cached_property
    def layer(self) -> ContextualLayer:
        """The layer in the mode in which its plugin builds it, with noise on every parameter."""
        layer = make_layer(self.spec, self.config, self._seed(1))  # which seeds the noise with _seed(2)
        return layer.to(device=self.device, dtype=self.dtype)

    def built(self, seed: int) -> ContextualLayer:
        """A new layer as its plugin builds it, in float64 on the CPU."""
        return build_layer(self.spec, self.config, seed)

    @cached_property
    def wide_layer(self) -> ContextualLayer:
        """A float64 copy of the layer."""
        return copy.deepcopy(self.layer).double()

    @cached_property
    def single_layer(self) -> ContextualLayer:
        """A float32 copy of the layer."""
        return copy.deepcopy(self.layer).float()

    @cached_property
    def query(self) -> Tensor:
        """`x (…, d)`, Gaussian."""
        return self._gaussian(torch.Generator().manual_seed(self._seed(3)), (*self.batch, self.layer.width))

    @cached_property
    def context(self) -> Tensor:
        """`C (…, n, d_context)`, Gaussian."""
        shape = (*self.batch, self.tokens, self.layer.context_width)
        return self._gaussian(torch.Generator().manual_seed(self._seed(4)), shape)

    @cached_property
    def _stream(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed(5))

    def generator(self) -> torch.Generator:
        """A new CPU generator from the seed, which always gives the same numbers."""
        return torch.Generator().manual_seed(self._seed(0))

    def tensor(self, *shape: int) -> Tensor:
        """A further Gaussian tensor of the case's dtype and device; the calls of a case give a fixed sequence of tensors."""
        return self._gaussian(self._stream, shape)

    def _seed(self, use: int) -> int:
        return 8 * self.seed + use

    def _gaussian(self, generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return drawn.to(device=self.device, dtype=self.dtype)


Property = Callable[[Case, st.DataObject], None]


@attrs.frozen(kw_only=True)
class Conformance:
    """A layer under test with its device and dtypes: the value of the fixture `conformance`.

    Attributes:
        spec: specification of the layer.
        device: device on which the layer runs.
        dtypes: dtypes to draw from.
        configs: configurations to draw from; by default all examples of the layer.
        max_examples: number of cases for each property.
    """

    spec: LayerSpec
    device: torch.device = CPU
    dtypes: tuple[torch.dtype, ...] = tuple(DTYPES.values())
    configs: tuple[Any, ...] = attrs.field(default=attrs.Factory(lambda self: self.spec.examples, takes_self=True))
    max_examples: int = 50

    def check(self, prop: Property) -> None:
        """Run a property on drawn cases; a failing case is shrunk and printed.

        The number of examples is `max_examples`, and the deadline and the *explain* phase are off. All other settings of
        hypothesis are those of the active profile.
        """

        def run(case: Case, data: st.DataObject) -> None:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(case.seed)  # a layer that draws random numbers draws the same ones again
                prop(case, data)

        run.__name__ = re.sub(
            r"\W", "_", f"{prop.__name__}_{self.spec.name}"
        )  # hypothesis stores failures under this name
        phases = [
            phase for phase in settings().phases if phase is not Phase.explain
        ]  # that phase traces every line of torch
        limits = settings(
            max_examples=self.max_examples,
            deadline=None,
            phases=phases,
            suppress_health_check=[HealthCheck.too_slow],
        )
        limits(given(case=self.cases(), data=st.data())(run))()

    def claiming(self, trait: str) -> "Conformance | None":
        """A copy with the configurations that claim this trait, or None if none does."""
        claims = [getattr(self.spec.traits(config), trait) for config in self.configs]
        chosen = tuple(
            c for c, claim in zip(self.configs, claims, strict=True) if claim is not None and claim is not False
        )
        return attrs.evolve(self, configs=chosen) if chosen else None

    def fewer(self, times: int) -> "Conformance":
        """A copy with `times` times fewer examples, for a slow property."""
        return attrs.evolve(self, max_examples=max(1, self.max_examples // times))

    def cases(self) -> st.SearchStrategy[Case]:
        """A strategy for cases of this layer, over configurations, dtypes, batch shapes, lengths and seeds."""
        return st.builds(
            Case,
            spec=st.just(self.spec),
            config=st.sampled_from(self.configs),
            dtype=st.sampled_from(self.dtypes),
            device=st.just(self.device),
            batch=st.sampled_from(BATCHES),
            tokens=st.integers(0, MOST_TOKENS),
            seed=st.integers(0, 2**32 - 1),
        )

    def wide(self) -> "Conformance":
        """A copy with float64 and float32 only, for negative controls: half precision cannot resolve a small difference.

        If neither dtype was requested, the test is skipped as "not applicable".
        """
        chosen = tuple(dtype for dtype in self.dtypes if dtype in WIDE)
        if not chosen:
            requested = ", ".join(str(dtype) for dtype in self.dtypes)
            pytest.skip(f"not applicable to {requested}: a negative control needs float64 or float32")
        return attrs.evolve(self, dtypes=chosen)
