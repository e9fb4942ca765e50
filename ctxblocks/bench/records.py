"""What a benchmark found."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from ctxblocks.bench.counting import Work
from ctxblocks.bench.statistics import Timing

Status = Literal["measured", "not affordable", "not installed", "not available", "absent"]
"""`not available`: the device lacks an operation in the dtype; `absent`: there is no such function."""
FUNCTIONS = ("sequence", "reference", "prefixes", "suffixes", "loop", "block", "dynamics")
"""What is measured of a layer, in this order."""
GROWING = ("sequence", "prefixes", "suffixes")
"""Functions whose exponents are fitted."""
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
    """The least time that a call can take by what the machine does at best.

    Attributes:
        seconds: the larger of operations ÷ their ceiling and bytes ÷ the copy's bandwidth.
        by: which of the two.
        share: of the bound in the measured median, 1 being as fast as the machine goes. Above 1 where caches serve what
            is counted as moved.
    """

    seconds: float
    by: Literal["operations", "bytes"]
    share: float


@attrs.frozen(kw_only=True)
class Measurement:
    """One function at one length.

    Attributes:
        status: whether there are numbers, and why not.
        note: what else is to be said; of what was not measured, the reason.
        estimate: seconds of a call, from shorter contexts; None where nothing could be called.
        time: of a call.
        work: of a call; None for the loop, whose counting would take too long.
        bound: of the time by the work; None where nothing was counted.
    """

    status: Status
    note: str | None = None
    estimate: float | None = None
    time: Timing | None = None
    work: Work | None = None
    bound: Bound | None = None


@attrs.frozen(kw_only=True)
class Row:
    """A layer variant at one length: one query, one context, no gradient.

    Attributes:
        layer: its name.
        variant: name and options, in words.
        options: of its configuration, beside the width.
        length: n, of the context, in tokens.
        functions: every measurement, by the names in `FUNCTIONS`.
    """

    layer: str
    variant: str
    options: Mapping[str, Any]
    length: int
    functions: Mapping[str, Measurement]

    @property
    def ratios(self) -> dict[str, float | None]:
        """Medians over medians and peaks over peaks; None where one of the two was not measured."""
        times = {name: self._seconds(above, below) for name, (above, below) in RATIOS.items()}
        return times | {name: self._bytes(above, below) for name, (above, below) in MEMORY_RATIOS.items()}

    def _seconds(self, above: str, below: str) -> float | None:
        one, two = self.functions[above].time, self.functions[below].time
        return one.median / two.median if one and two else None

    def _bytes(self, above: str, below: str) -> float | None:
        one, two = self.functions[above].work, self.functions[below].work
        return one.memory / two.memory if one and two and two.memory else None


@attrs.frozen(kw_only=True)
class Growth:
    """How a layer variant's times grow from the shortest to the longest measured context.

    Attributes:
        layer: its name.
        variant: name and options, in words.
        exponents: `p` of `t ∝ nᵖ` by function; None where fewer than two lengths were measured.
        lengths: first and last measured length by function, in tokens.
    """

    layer: str
    variant: str
    exponents: Mapping[str, float | None]
    lengths: Mapping[str, tuple[int, int] | None]


@attrs.frozen(kw_only=True)
class Comparison:
    """Something beside its plain counterpart.

    Attributes:
        name: lower case, with hyphens.
        what: what was compared, with its sizes.
        times: by name.
        memory: peaks in bytes, by the same names, where they were counted.
        ratios: times or peaks over each other, by name, such as `updated/plain`.
    """

    name: str
    what: str
    times: Mapping[str, Timing]
    memory: Mapping[str, int] = attrs.field(factory=dict)
    ratios: Mapping[str, float]


@attrs.frozen(kw_only=True)
class Ceilings:
    """What the machine does at best.

    Attributes:
        flops: floating-point operations per second of a matrix product in the dtype.
        flops_by: how that was measured.
        bandwidth: bytes per second that a copy reads and writes.
        bandwidth_by: how that was measured.
    """

    flops: float
    flops_by: str
    bandwidth: float
    bandwidth_by: str


@attrs.frozen(kw_only=True)
class Machine:
    """Where it was measured.

    Attributes:
        device: `cpu` or `cuda`.
        name: of the processor or the card.
        processors: of the machine.
        threads: of torch on the CPU.
        memory: free on the device at the start, in bytes.
        torch: its version.
        python: its version.
    """

    device: str
    name: str
    processors: int
    threads: int
    memory: int
    torch: str
    python: str
