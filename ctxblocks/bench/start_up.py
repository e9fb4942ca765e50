"""How long the command line takes to answer, and the package to be imported."""

import subprocess
import sys
import time
from collections.abc import Callable

import attrs

from ctxblocks.bench.config import BenchConfig
from ctxblocks.bench.layers import Bench
from ctxblocks.bench.records import Comparison
from ctxblocks.bench.timing import Call, Timed

REPEATS = 5
"""Fresh interpreters for each."""
HELP = "import sys; from ctxblocks.cli import main; sys.exit(main(['--help']))"
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def start_up(bench: Bench, config: BenchConfig) -> Comparison:
    """`ctxblocks --help` from start to end, and the imports of ctxblocks and torch, in fresh interpreters."""
    calls: dict[str, Callable[[], float]] = {
        "help": _answered,
        "import ctxblocks": lambda: _imported("ctxblocks"),
        "import torch": lambda: _imported("torch"),
    }
    for call in calls.values():
        call()  # compiled modules are cached from here on
    repeats = REPEATS if config.repeats is None else config.repeats
    stopwatch = attrs.evolve(bench.stopwatch, clock=_own_clock)
    times = stopwatch.interleave({name: Timed(call=call, repeats=repeats) for name, call in calls.items()})
    return Comparison(
        name="start-up",
        what="wall time of `ctxblocks --help`, and of the two imports without the interpreter's own start",
        times=times,
        ratios={"import ctxblocks/import torch": times["import ctxblocks"].median / times["import torch"].median},
    )


def _own_clock(call: Call) -> float:
    """The seconds that a call itself returns."""
    seconds = call()
    assert isinstance(seconds, float)
    return seconds


def _answered() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", HELP], check=True, capture_output=True)
    return time.perf_counter() - start


def _imported(module: str) -> float:
    script = IMPORT.format(module)
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
