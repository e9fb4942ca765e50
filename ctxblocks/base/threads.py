"""The number of CPU threads that torch computes on."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """A context in which torch computes on so many CPU threads; None leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """A context in which torch computes on one CPU thread.

    For small tensors, two threads take far longer than one if another process is busy. One thread also fixes the order in
    which sums are accumulated.
    """
    return torch_threads(1)
