"""The settings of a benchmark, and the plan made from them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import torch
from attrs.validators import deep_iterable, optional

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.memory import check_room
from ctxblocks.base.messages import listed
from ctxblocks.exactness.dtypes import DTYPES
from ctxblocks.registration.requests import device_of, specs_of
from ctxblocks.registration.specs import LayerSpec
from ctxblocks.validators import integer_at_least, plain_integer, seed_of

LENGTHS = (1024, 4096, 16384)
WAY_OUT = "give a smaller --chunk or shorter --lengths"
_COUNT = integer_at_least(1)


def _rising(lengths: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(lengths)))


@attrs.frozen(kw_only=True)
class BenchConfig:
    """The settings of a benchmark.

    Attributes:
        layers: names of registered layers; None measures all of them and makes the comparisons too.
        width: width `d` of query and tokens; the network's hidden layer is four times as wide.
        lengths: lengths `n` of the contexts, in tokens.
        dtype: dtype of layers and tokens: float32, float64, bfloat16 or float16.
        repeats: number of repeats of every call; None chooses it by the time of a call.
        threads: number of torch's CPU threads; None keeps torch's default.
        chunk: number of tokens that `dynamics` processes at a time; None keeps the default of `dynamics`.
        seed: seed of weights and tokens.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises:
        ArgumentError: a number is out of range or the dtype is unknown.
    """

    layers: tuple[str, ...] | None = None
    width: int = attrs.field(default=256, converter=plain_integer, validator=_COUNT)
    lengths: tuple[int, ...] = attrs.field(default=LENGTHS, converter=_rising, validator=deep_iterable(_COUNT))
    dtype: str = "float32"
    repeats: int | None = attrs.field(
        default=None, converter=attrs.converters.optional(plain_integer), validator=optional(_COUNT)
    )
    threads: int | None = attrs.field(
        default=None, converter=attrs.converters.optional(plain_integer), validator=optional(_COUNT)
    )
    chunk: int | None = attrs.field(
        default=None, converter=attrs.converters.optional(plain_integer), validator=optional(_COUNT)
    )
    seed: int = attrs.field(default=0, converter=seed_of)
    device: str = "auto"

    def __attrs_post_init__(self) -> None:
        """Check that there are lengths and that the dtype is known."""
        if not self.lengths:
            raise ArgumentError("lengths: got none, needs at least one, such as 1024")
        if self.dtype not in DTYPES:
            raise ArgumentError(f"dtype: got {self.dtype!r}, needs one of {', '.join(DTYPES)}")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The torch dtype."""
        return DTYPES[self.dtype]


@attrs.frozen(kw_only=True)
class Variant:
    """A layer in one of the configurations that its plugin provides for benchmarks.

    Attributes:
        spec: specification of the layer.
        options: fields of its configuration other than the width.
    """

    spec: LayerSpec
    options: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The layer's name and its options, such as `self-attention positions=rotary`."""
        return " ".join([self.spec.name, *(f"{name}={value}" for name, value in self.options.items())])


@attrs.frozen(kw_only=True)
class BenchPlan:
    """A benchmark with checked settings.

    Attributes:
        config: the settings.
        variants: the variants of all requested layers.
        device: the device.
        compared: whether the comparisons are made.
    """

    config: BenchConfig
    variants: tuple[Variant, ...]
    device: torch.device
    compared: bool

    @property
    def name(self) -> str:
        """The default name of the run's folder."""
        return f"bench-{self.device.type}-{self.config.dtype}-width-{self.config.width}"


def plan_bench(config: BenchConfig) -> BenchPlan:
    """Look up layers and device, and check that the longest context fits into memory.

    Raises:
        UnknownLayerError, PluginError: a layer is not registered, or all layers are requested and a plugin failed.
        ArgumentError: no requested layer has a configuration for benchmarks.
        DeviceError: `device="cuda"` without a GPU.
        OutOfMemoryError: the longest context, its reads, updates and outputs are larger than the free memory.
    """
    device, specs = device_of(config.device), specs_of(config.layers)
    variants = tuple(Variant(spec=spec, options=options) for spec in specs for options in spec.benchmarks)
    if not variants:
        raise ArgumentError(f"layers: got {listed([spec.name for spec in specs])}, needs one with LayerSpec.benchmarks")
    longest = config.lengths[-1]
    arrays = 4  # the context, and the read, update and output of every prefix
    needed = math.prod((arrays, longest, config.width, config.torch_dtype.itemsize))
    check_room(needed, device, context_of(longest, config.width, "prefixes"), WAY_OUT)
    return BenchPlan(config=config, variants=variants, device=device, compared=config.layers is None)


def context_of(length: int, width: int, what: str) -> str:
    """The first part of an error message about memory."""
    return f"context: got {length} tokens of width {width}, whose {what}"
