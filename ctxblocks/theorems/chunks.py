"""How many prefixes a network works on at a time, and whether there is memory for all of them."""

import math
from collections.abc import Sequence

from torch import Tensor

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.memory import check_room
from ctxblocks.blocks.block import ContextualBlock

HIDDEN = 2**18
"""Numbers that the first layers of a network put out at a time: a megabyte in float32."""
MUCH = 2**26
"""Bytes from which on the free memory is looked up."""


def check_chunk(
    context: Tensor,  # (…, n, d_context)
    blocks: Sequence[ContextualBlock],
    chunk: int | None,
    guarded: bool,
) -> tuple[str, str]:
    """Raise unless `chunk` is a number of rows, and where `guarded`, unless there is memory for all prefixes.

    The updates and reads that every block keeps of a prefix are compared with the free memory, where they are many.

    Returns:
        What needs the memory and the way out, in the words of `memory_errors`.

    Raises:
        ArgumentError: `chunk` is below 1.
        OutOfMemoryError: less memory is free.
    """
    if chunk is not None and chunk < 1:
        raise ArgumentError(f"chunk: got {chunk}, needs at least 1, or None for as many rows as a cache holds")
    rows = math.prod(context.shape[:-2]) * (context.shape[-2] + 1)
    needed = rows * sum([2 * block.layer.width for block in blocks]) * context.element_size()
    what = f"context: got {context.shape[-2]} tokens of width {context.shape[-1]}, whose dynamics"
    way_out = "pass a smaller chunk=…, fewer tokens, or a smaller batch"
    if guarded and needed > MUCH:
        check_room(needed, context.device, what, way_out)
    return what, way_out


def rows_at_a_time(block: ContextualBlock, chunk: int | None) -> int:
    """The rows that the network works on at a time: as asked, or as many as keep its first layers' outputs in a cache."""
    if chunk is not None:
        return chunk
    return max(1, HIDDEN // sum(reader.out_features for reader in block.network.readers.values()))
