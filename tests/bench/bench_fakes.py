"""Simulated time and load, instruments for small measurements, and a registered layer to measure."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from testing import faulty_layers as layers

from ctxblocks import LayerSpec
from ctxblocks.bench.budget import Budget
from ctxblocks.bench.layers import Bench
from ctxblocks.bench.load import Usage, read_usage
from ctxblocks.bench.records import Ceilings
from ctxblocks.bench.timing import Stopwatch, cpu_clock

CPU = torch.device("cpu")
CEILINGS = Ceilings(flops=1e9, flops_by="a product", bandwidth=1e9, bandwidth_by="a copy")


class World:
    """Time passes only in `work(name, seconds)`; other processes use `foreign` processors meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy = 0.0
        self.own = 0.0
        self.foreign = 0.0
        self.calls: list[str] = []

    def work(self, name: str, seconds: float) -> None:
        self.calls.append(name)
        self.now += seconds
        self.own += seconds
        self.busy += seconds * (1 + self.foreign)

    def clock(self, call: Callable[[], object]) -> float:
        start = self.now
        call()
        return self.now - start

    def usage(self) -> Usage:
        return Usage(self.now, self.busy, self.own)

    def stopwatch(self, **changes: Any) -> Stopwatch:
        return Stopwatch(**{"clock": self.clock, "usage": self.usage, "processors": 2, "threads": 2, **changes})


def instruments(budget: Budget | None = None, stopwatch: Stopwatch | None = None) -> Bench:
    """By default real clocks, one repeat, and no retries."""
    watch = (
        Stopwatch(clock=cpu_clock, usage=read_usage, processors=2, threads=1, retries=0)
        if stopwatch is None
        else stopwatch
    )
    budget = Budget(repeats=1, shortest=1e-9) if budget is None else budget
    return Bench(device=CPU, stopwatch=watch, budget=budget, ceilings=CEILINGS)


def registered(build: Callable[[Any], Any] = layers.Honest, **changes: Any) -> AbstractContextManager[LayerSpec]:
    """The registry contains this layer within the context."""
    return layers.registered(layers.spec(build, **changes))
