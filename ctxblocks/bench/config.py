"""What is to be measured."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import torch

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.memory import check_room
from ctxblocks.base.messages import listed
from ctxblocks.exactness.dtypes import DTYPES
from ctxblocks.registration.requests import device_of, specs_of
from ctxblocks.registration.specs import LayerSpec

LENGTHS = (1024, 4096, 16384)
WAY_OUT = "give a smaller --chunk or shorter --lengths"


def _rising(lengths: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(lengths)))


@attrs.frozen(kw_only=True)
class BenchConfig:
    """The settings of a benchmark.

    Attributes:
        layers: names of registered layers; None for all of them and the comparisons too.
        width: d, of query and tokens; the network's hidden layer is four times as wide.
        lengths: n, of the contexts, in tokens.
        dtype: of layers and tokens: float32, float64, bfloat16 or float16.
        repeats: of every call; None leaves it to the time that a call takes.
        threads: of torch on the CPU; None for torch's own number.
        chunk: tokens that `dynamics` works on at a time; None leaves it to `dynamics`.
        seed: of weights and tokens.
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.

    Raises:
        ArgumentError: a number is out of range or the dtype unknown.
    """

    layers: tuple[str, ...] | None = None
    width: int = 256
    lengths: tuple[int, ...] = attrs.field(default=LENGTHS, converter=_rising)
    dtype: str = "float32"
    repeats: int | None = None
    threads: int | None = None
    chunk: int | None = None
    seed: int = 0
    device: str = "auto"

    def __attrs_post_init__(self) -> None:
        """Check the numbers."""
        if not self.lengths:
            raise ArgumentError("lengths: got none, needs at least one, such as 1024")
        for name, value in (
            ("width", self.width),
            ("repeats", self.repeats),
            ("threads", self.threads),
            ("chunk", self.chunk),
            *(("lengths", length) for length in self.lengths),
        ):
            if value is not None and value < 1:
                raise ArgumentError(f"{name}: got {value}, needs an integer ≥ 1")
        if self.dtype not in DTYPES:
            raise ArgumentError(f"dtype: got {self.dtype!r}, needs one of {', '.join(DTYPES)}")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return DTYPES[self.dtype]


@attrs.frozen(kw_only=True)
class Variant:
    """A layer in one of the configurations that its plugin names for benchmarks.

    Attributes:
        spec: of the layer.
        options: of its configuration, beside the width.
    """

    spec: LayerSpec
    options: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The layer's name and what was set: `self-attention positions=rotary`."""
        return " ".join([self.spec.name, *(f"{name}={value}" for name, value in self.options.items())])


@attrs.frozen(kw_only=True)
class BenchPlan:
    """A benchmark whose settings have been checked.

    Attributes:
        config: the settings.
        variants: of all layers asked for.
        device: where.
        compared: whether the comparisons are made too.
    """

    config: BenchConfig
    variants: tuple[Variant, ...]
    device: torch.device
    compared: bool

    @property
    def name(self) -> str:
        """The default name of the folder."""
        return f"bench-{self.device.type}-{self.config.dtype}-width-{self.config.width}"


def plan_bench(config: BenchConfig) -> BenchPlan:
    """Look up layers and device, and see that the longest context has room.

    Raises:
        UnknownLayerError, PluginError: a layer is not registered, or all are asked for and a plugin failed.
        ArgumentError: no layer names a configuration to measure.
        DeviceError: `device="cuda"` without a GPU.
        OutOfMemoryError: the longest context, its reads, updates and outputs are larger than the free memory.
    """
    device, specs = device_of(config.device), specs_of(config.layers)
    variants = tuple(Variant(spec=spec, options=options) for spec in specs for options in spec.benchmarks)
    if not variants:
        raise ArgumentError(f"layers: got {listed([spec.name for spec in specs])}, needs one with LayerSpec.benchmarks")
    longest = config.lengths[-1]
    arrays = 4  # the context, and every prefix's read, update and output
    needed = math.prod((arrays, longest, config.width, config.torch_dtype.itemsize))
    check_room(needed, device, context_of(longest, config.width, "prefixes"), WAY_OUT)
    return BenchPlan(config=config, variants=variants, device=device, compared=config.layers is None)


def context_of(length: int, width: int, what: str) -> str:
    """The subject of a message about memory."""
    return f"context: got {length} tokens of width {width}, whose {what}"
