"""The time of `ctxblocks --help` and of `import ctxblocks`."""

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
"""New interpreters for each call."""
HELP = "import sys; from ctxblocks.cli import main; sys.exit(main(['--help']))"
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def start_up(bench: Bench, config: BenchConfig) -> Comparison:
    """The time of `ctxblocks --help`, and of importing ctxblocks and torch, each in new interpreters."""
    calls: dict[str, Callable[[], float]] = {
        "help": _help_seconds,
        "import ctxblocks": lambda: _import_seconds("ctxblocks"),
        "import torch": lambda: _import_seconds("torch"),
    }
    for call in calls.values():
        call()  # so that compiled modules are cached
    repeats = REPEATS if config.repeats is None else config.repeats
    stopwatch = attrs.evolve(bench.stopwatch, clock=_returned_seconds)
    times = stopwatch.interleave({name: Timed(call=call, repeats=repeats) for name, call in calls.items()})
    return Comparison(
        name="start-up",
        what="wall time of `ctxblocks --help`, and of the two imports without the interpreter's own start",
        times=times,
        ratios={"import ctxblocks/import torch": times["import ctxblocks"].median / times["import torch"].median},
    )


def _returned_seconds(call: Call) -> float:
    """A clock for calls that return their time in seconds."""
    seconds = call()
    assert isinstance(seconds, float)
    return seconds


def _help_seconds() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", HELP], check=True, capture_output=True)
    return time.perf_counter() - start


def _import_seconds(module: str) -> float:
    script = IMPORT.format(module)
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
