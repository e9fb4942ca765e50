"""The records of a benchmark's results."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from ctxblocks.bench.counting import Work
from ctxblocks.bench.statistics import Timing

Status = Literal["measured", "not affordable", "not installed", "not available", "absent"]
"""`not available`: the device lacks an operation in the dtype; `absent`: the layer has no such function."""
FUNCTIONS = ("sequence", "reference", "prefixes", "suffixes", "loop", "block", "dynamics")
"""The functions of a layer that are measured, in this order."""
GROWING = ("sequence", "prefixes", "suffixes")
"""Functions whose exponents of growth are computed."""
RATIOS: dict[str, tuple[str, str]] = {
    "prefixes/sequence": ("prefixes", "sequence"),
    "suffixes/sequence": ("suffixes", "sequence"),
    "loop/prefixes": ("loop", "prefixes"),
    "sequence/reference": ("sequence", "reference"),
    "dynamics/block": ("dynamics", "block"),
}
MEMORY_RATIOS: dict[str, tuple[str, str]] = {
    "prefixes/sequence memory": ("prefixes", "sequence"),
    "dynamics/block memory": ("dynamics", "block"),
}


@attrs.frozen(kw_only=True)
class Bound:
    """The least time of a call at the peak rates of the machine.

    Attributes:
        seconds: the larger of operations ÷ peak operations per second and bytes ÷ bandwidth of a copy.
        by: which of the two is larger.
        share: the bound divided by the measured median; 1 is the speed of the machine. It can exceed 1, because caches may
            serve bytes that are counted as moved.
    """

    seconds: float
    by: Literal["operations", "bytes"]
    share: float


@attrs.frozen(kw_only=True)
class Measurement:
    """The measurement of one function at one length.

    Attributes:
        status: whether the function was measured, and if not, why.
        note: a note; if the function was not measured, the reason.
        estimate: seconds of a call, estimated from shorter contexts; None if no trial call was possible.
        time: time of a call.
        work: work of a call; None for the loop, since counting would take too long.
        bound: least time for the work; None if the work was not counted.
    """

    status: Status
    note: str | None = None
    estimate: float | None = None
    time: Timing | None = None
    work: Work | None = None
    bound: Bound | None = None


@attrs.frozen(kw_only=True)
class Row:
    """The measurements of a layer variant at one length, for one query and one context, without gradients.

    Attributes:
        layer: name of the layer.
        variant: name and options, as text.
        options: fields of the configuration other than the width.
        length: length `n` of the context, in tokens.
        functions: the measurements, by the names in `FUNCTIONS`.
    """

    layer: str
    variant: str
    options: Mapping[str, Any]
    length: int
    functions: Mapping[str, Measurement]

    @property
    def ratios(self) -> dict[str, float | None]:
        """Ratios of medians and of memory peaks; None if one of the two was not measured."""
        times = {name: self._seconds(above, below) for name, (above, below) in RATIOS.items()}
        return times | {name: self._bytes(above, below) for name, (above, below) in MEMORY_RATIOS.items()}

    def _seconds(self, above: str, below: str) -> float | None:
        numerator, denominator = self.functions[above].time, self.functions[below].time
        return numerator.median / denominator.median if numerator and denominator else None

    def _bytes(self, above: str, below: str) -> float | None:
        numerator, denominator = self.functions[above].work, self.functions[below].work
        return numerator.memory / denominator.memory if numerator and denominator and denominator.memory else None


@attrs.frozen(kw_only=True)
class Growth:
    """The growth of a layer variant's times from the shortest to the longest measured context.

    Attributes:
        layer: name of the layer.
        variant: name and options, as text.
        exponents: `p` of `t ∝ nᵖ` for each function; None if fewer than two lengths were measured.
        lengths: shortest and longest measured length for each function, in tokens.
    """

    layer: str
    variant: str
    exponents: Mapping[str, float | None]
    lengths: Mapping[str, tuple[int, int] | None]


@attrs.frozen(kw_only=True)
class Comparison:
    """A comparison of several calls.

    Attributes:
        name: name of the comparison, in lower case with hyphens.
        what: description of the calls, with their sizes.
        times: times of the calls, by name.
        memory: peak memory of the calls in bytes, by the same names; empty if it was not counted.
        ratios: ratios of times or peaks, by name, such as `updated/plain`.
    """

    name: str
    what: str
    times: Mapping[str, Timing]
    memory: Mapping[str, int] = attrs.field(factory=dict)
    ratios: Mapping[str, float]


@attrs.frozen(kw_only=True)
class Ceilings:
    """The peak rates of the machine.

    Attributes:
        flops: floating-point operations per second of a matrix product in the dtype.
        flops_by: how `flops` was measured.
        bandwidth: bytes per second that a copy reads and writes.
        bandwidth_by: how `bandwidth` was measured.
    """

    flops: float
    flops_by: str
    bandwidth: float
    bandwidth_by: str


@attrs.frozen(kw_only=True)
class Machine:
    """The machine and software of a benchmark.

    Attributes:
        device: `cpu` or `cuda`.
        name: name of the processor or GPU.
        processors: number of processors.
        threads: number of torch's CPU threads.
        memory: free memory of the device at the start, in bytes.
        torch: version of torch.
        python: version of Python.
    """

    device: str
    name: str
    processors: int
    threads: int
    memory: int
    torch: str
    python: str
