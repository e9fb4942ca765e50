"""How many prefixes a network processes at a time, and whether the memory suffices for all of them."""

import math
import numbers
from collections.abc import Sequence

from torch import Tensor

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.memory import check_room
from ctxblocks.blocks.block import ContextualBlock

HIDDEN = 2**18
"""Target number of entries in the outputs of the input projections at a time: one mebibyte in float32."""
LARGE = 2**26
"""Results of more bytes than this are compared with the free memory."""


def check_chunk(
    context: Tensor,  # (…, n, d_context)
    blocks: Sequence[ContextualBlock],
    chunk: int | None,
    guarded: bool,
) -> tuple[str, str]:
    """Raise unless `chunk` is a valid number of rows and, if `guarded`, the results for all prefixes fit into memory.

    The results are the update and the read of every prefix in every block. They are compared with the free memory if they
    are larger than `LARGE`.

    Returns:
        What needs the memory, and what the user can do: the two parts of the message of `memory_errors`.

    Raises:
        ArgumentError: `chunk` is below 1.
        OutOfMemoryError: the free memory is smaller than the results.
    """
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, numbers.Integral) or chunk < 1):
        raise ArgumentError(f"chunk: got {chunk}, needs at least 1, or None for as many rows as a cache holds")
    rows = math.prod(context.shape[:-2]) * (context.shape[-2] + 1)
    needed = rows * sum([2 * block.layer.width for block in blocks]) * context.element_size()
    what = f"context: got {context.shape[-2]} tokens of width {context.shape[-1]}, whose dynamics"
    way_out = "pass a smaller chunk=…, fewer tokens, or a smaller batch"
    if guarded and needed > LARGE:
        check_room(needed, context.device, what, way_out)
    return what, way_out


def rows_at_a_time(block: ContextualBlock, chunk: int | None) -> int:
    """The number of rows that the network processes at a time: `chunk`, or as many as keep its hidden layers in the cache."""
    if chunk is not None:
        return chunk
    return max(1, HIDDEN // sum(reader.out_features for reader in block.network.readers.values()))
