"""How much of the machine other processes use while something is measured."""

import time
from collections.abc import Callable
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


Reader = Callable[[], Usage]


def read_usage() -> Usage:
    """The counters now, as the system keeps them."""
    system, own = psutil.cpu_times()._asdict(), psutil.Process().cpu_times()
    busy = sum(seconds for name, seconds in system.items() if name not in IDLE)
    mine = own.user + own.system + own.children_user + own.children_system
    return Usage(time.perf_counter(), busy, mine)


def foreign_share(before: Usage, after: Usage, processors: int) -> float:
    """The share of the machine's processor time that others used between two readings, 0 … 1.

    What the ticks of the system's clock can make up counts as none.
    """
    foreign = (after.busy - before.busy) - (after.own - before.own)
    room = (after.wall - before.wall) * processors
    return min(1.0, foreign / room) if room > 0 and foreign > LEAST else 0.0
