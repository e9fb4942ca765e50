"""Foreign load: how much processor time other processes use during a measurement."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psutil

LEAST = 0.03
"""Seconds of foreign processor time that may result from the resolution of the counters, 10 ms each."""
IDLE = ("idle", "iowait", "guest", "guest_nice")
"""Fields of the system's processor times in which it is idle, or that other fields include."""


class Usage(NamedTuple):
    """Counters of time, of which only differences are meaningful.

    Attributes:
        wall: wall-clock time in seconds.
        busy: busy time of all processors together, in seconds.
        own: the part of `busy` that this process and its ended children used.
    """

    wall: float
    busy: float
    own: float


class Load(NamedTuple):
    """The processor time that other processes used in an interval.

    Attributes:
        foreign: seconds of processor time that they used.
        room: seconds of processor time that all processors together had.
    """

    foreign: float
    room: float


UsageSource = Callable[[], Usage]


def read_usage() -> Usage:
    """The present counters of the system."""
    system, own = psutil.cpu_times()._asdict(), psutil.Process().cpu_times()
    busy = sum(seconds for name, seconds in system.items() if name not in IDLE)
    used = own.user + own.system + own.children_user + own.children_system
    return Usage(time.perf_counter(), busy, used)


def between(before: Usage, after: Usage, processors: int) -> Load:
    """The foreign load between two readings of the counters."""
    foreign = (after.busy - before.busy) - (after.own - before.own)
    return Load(foreign, (after.wall - before.wall) * processors)


def share_of(loads: Sequence[Load]) -> float:
    """The share of the machine's processor time that other processes used in all these intervals, from 0 to 1.

    Time below the resolution of the counters (`LEAST`) counts as 0.
    """
    foreign, room = sum(load.foreign for load in loads), sum(load.room for load in loads)
    return min(1.0, foreign / room) if room > 0 and foreign > LEAST else 0.0
