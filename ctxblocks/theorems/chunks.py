"""How many prefixes a network works on at a time, and whether there is memory for all of them."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.memory import check_room, memory_errors
from ctxblocks.blocks.block import ContextualBlock

HIDDEN = 2**18
"""Numbers that the first layers of a network put out at a time: a megabyte in float32."""
MUCH = 2**26
"""Bytes from which on the free memory is looked up."""


def check_chunk(chunk: int | None) -> None:
    """Raise unless `chunk` is a number of rows.

    Raises:
        ArgumentError: it is below 1.
    """
    if chunk is not None and chunk < 1:
        raise ArgumentError(f"chunk: got {chunk}, needs at least 1, or None for as many rows as a cache holds")


@contextmanager
def room_for_prefixes(
    context: Tensor,  # (…, n, d_context)
    blocks: Sequence[ContextualBlock],
) -> Iterator[None]:
    """Within it, too little memory for all prefixes is an error that says how much they take, before the process is killed.

    What every block keeps of a prefix, its update and its read, is compared with what is free, where that is much.

    Raises:
        OutOfMemoryError: less is free, or torch was refused an allocation.
    """
    rows = math.prod(context.shape[:-2]) * (context.shape[-2] + 1)
    needed = rows * sum(2 * block.width for block in blocks) * context.element_size()
    what = f"context: got {context.shape[-2]} tokens of width {context.shape[-1]}, whose dynamics"
    way_out = "pass a smaller chunk=…, fewer tokens, or a smaller batch"
    if needed > MUCH:
        check_room(needed, context.device, what, way_out)
    with memory_errors(context.device, what, way_out):
        yield


def rows_at_a_time(block: ContextualBlock, chunk: int | None) -> int:
    """The rows that the network works on at a time: as asked, or as many as keep its first layers' outputs in a cache."""
    if chunk is not None:
        return chunk
    return max(1, HIDDEN // sum(reader.out_features for reader in block.network.readers.values()))
