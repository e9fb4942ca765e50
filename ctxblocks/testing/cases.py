"""What a property of the suite is tried on: drawn cases of one layer, and the runner that draws them."""

import copy
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import attrs
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.registration.specs import LayerSpec

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
CPU = torch.device("cpu")
WIDE = (torch.float64, torch.float32)
BATCHES = ((), (1,), (2,), (3,), (2, 2))
MOST_TOKENS = 6
NOISE = 0.1  # added to every parameter, so that zero biases and unit scales are seen too


@attrs.frozen(kw_only=True, slots=False)
class Case:
    """One drawn example: a layer, a query and a context, all derived from the seed.

    Attributes:
        spec: of the layer under test.
        config: one of its examples.
        dtype: of the layer and of every tensor.
        device: likewise.
        batch: leading dimensions of query and context.
        tokens: n, the length of the context.
        seed: what everything random comes from.
    """

    spec: LayerSpec
    config: Any
    dtype: torch.dtype
    device: torch.device
    batch: tuple[int, ...]
    tokens: int
    seed: int

    def __repr__(self) -> str:
        """What a failure prints."""
        return (
            f"Case(layer={self.spec.name!r}, config={self.config!r}, dtype={self.dtype}, device={str(self.device)!r}, "
            f"batch={self.batch}, tokens={self.tokens}, seed={self.seed})"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The same for hypothesis, which would list the attributes of an attrs class one by one."""
        printer.text(repr(self))

    @cached_property
    def layer(self) -> ContextualLayer:
        """The layer in the mode in which it was built, its parameters randomised from the seed."""
        layer = self.built(self._seed(1))
        noise = torch.Generator().manual_seed(self._seed(2))
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=noise, dtype=torch.float64), alpha=NOISE)
        return layer.to(device=self.device, dtype=self.dtype)

    def built(self, seed: int) -> ContextualLayer:
        """A new layer as its plugin builds it, in float64 and on the CPU."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layer: ContextualLayer = self.spec.build(self.config)
            return layer.double()

    @cached_property
    def wide_layer(self) -> ContextualLayer:
        """The layer's float64 copy."""
        return copy.deepcopy(self.layer).double()

    @cached_property
    def single_layer(self) -> ContextualLayer:
        """The layer's float32 copy."""
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
        """A fresh CPU generator from the seed: always the same numbers."""
        return torch.Generator().manual_seed(self._seed(0))

    def tensor(self, *shape: int) -> Tensor:
        """A Gaussian tensor of the case's dtype and device; every call gives other numbers, in a fixed order."""
        return self._gaussian(self._stream, shape)

    def _seed(self, use: int) -> int:
        return 8 * self.seed + use

    def _gaussian(self, generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return drawn.to(device=self.device, dtype=self.dtype)


Property = Callable[[Case, st.DataObject], None]


@attrs.frozen(kw_only=True)
class Conformance:
    """One layer under test, and where: what the fixture `conformance` gives.

    Attributes:
        spec: the layer's.
        device: where it runs.
        dtypes: those drawn from.
        configs: the configurations drawn from; by default all examples of the layer.
        max_examples: drawn for each property.
    """

    spec: LayerSpec
    device: torch.device = CPU
    dtypes: tuple[torch.dtype, ...] = tuple(DTYPES.values())
    configs: tuple[Any, ...] = attrs.field(default=attrs.Factory(lambda self: self.spec.examples, takes_self=True))
    max_examples: int = 50

    def check(self, prop: Property) -> None:
        """Try a property on drawn cases; a failure shrinks and prints its case.

        Other settings of hypothesis, but for the number of examples and the deadline, are those of the caller's profile.
        """

        def run(case: Case, data: st.DataObject) -> None:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(case.seed)  # a layer that draws numbers draws the same ones when replayed
                prop(case, data)

        run.__name__ = re.sub(r"\W", "_", f"{prop.__name__}_{self.spec.name}")  # failures are stored under this name
        phases = [phase for phase in settings().phases if phase is not Phase.explain]  # it traces every line of torch
        limits = settings(
            max_examples=self.max_examples,
            deadline=None,
            phases=phases,
            suppress_health_check=[HealthCheck.too_slow],
        )
        limits(given(case=self.cases(), data=st.data())(run))()

    def claiming(self, trait: str) -> "Conformance | None":
        """The same on the configurations that claim this trait, or None where none does."""
        claims = [getattr(self.spec.traits(config), trait) for config in self.configs]
        chosen = tuple(
            c for c, claim in zip(self.configs, claims, strict=True) if claim is not None and claim is not False
        )
        return attrs.evolve(self, configs=chosen) if chosen else None

    def fewer(self, times: int) -> "Conformance":
        """The same with this many times fewer examples, for a property that takes long."""
        return attrs.evolve(self, max_examples=max(1, self.max_examples // times))

    def cases(self) -> st.SearchStrategy[Case]:
        """Cases of this layer, drawn over configurations, dtypes, batch shapes, lengths and seeds."""
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
        """The same in float64 and float32 only, for negative controls: half precision cannot see a small change.

        Neither asked for is "not applicable", a skip with this reason.
        """
        chosen = tuple(dtype for dtype in self.dtypes if dtype in WIDE)
        if not chosen:
            asked = ", ".join(str(dtype) for dtype in self.dtypes)
            pytest.skip(f"not applicable to {asked}: a negative control needs float64 or float32")
        return attrs.evolve(self, dtypes=chosen)
