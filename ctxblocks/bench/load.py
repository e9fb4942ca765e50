"""How much of the machine other processes use while something is measured."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psutil

LEAST = 0.03
"""Seconds of foreign processor time that the system's clock ticks (10 ms each, on either counter) can make up."""
IDLE = ("idle", "iowait", "guest", "guest_nice")
"""Fields of the system's processor times in which it does nothing, or that others contain."""


class Usage(NamedTuple):
    """Counters at one moment; only their differences mean anything.

    Attributes:
        wall: seconds that have passed.
        busy: seconds that all processors together have worked.
        own: seconds of these for this process and its ended children.
    """

    wall: float
    busy: float
    own: float


class Load(NamedTuple):
    """What others did meanwhile.

    Attributes:
        foreign: seconds of processor time that they used.
        room: seconds that all processors together had.
    """

    foreign: float
    room: float


Reader = Callable[[], Usage]


def read_usage() -> Usage:
    """The counters now, as the system keeps them."""
    system, own = psutil.cpu_times()._asdict(), psutil.Process().cpu_times()
    busy = sum(seconds for name, seconds in system.items() if name not in IDLE)
    mine = own.user + own.system + own.children_user + own.children_system
    return Usage(time.perf_counter(), busy, mine)


def between(before: Usage, after: Usage, processors: int) -> Load:
    """The load between two readings."""
    foreign = (after.busy - before.busy) - (after.own - before.own)
    return Load(foreign, (after.wall - before.wall) * processors)


def share_of(loads: Sequence[Load]) -> float:
    """The share of the machine's processor time that others used over all of these, 0 … 1.

    What the ticks of the system's clock can make up counts as none.
    """
    foreign, room = sum(load.foreign for load in loads), sum(load.room for load in loads)
    return min(1.0, foreign / room) if room > 0 and foreign > LEAST else 0.0
