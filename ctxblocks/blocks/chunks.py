"""Many rows through a network, a part of them at a time."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.memory import check_room, memory_errors
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate

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


def complete_rows(
    block: ContextualBlock,
    read: Read,  # (…, n, d)
    update: ImplicitUpdate | None,  # batched (…, n), of place "output-bias"
    chunk: int | None,
) -> Tensor:  # (…, n, d)
    """`block.complete`, the network working on `chunk` rows at a time, over all of the batch."""
    z = read.z if update is None else update.operator.apply(read.z)
    bypass = read.bypass
    if bypass is not None and update is not None and update.shift is not None:
        bypass = bypass + update.shift
    if chunk is None:
        chunk = max(1, HIDDEN // sum(reader.out_features for reader in block.network.readers.values()))
    if z.shape[:-1].numel() <= chunk:
        return block.join(bypass, block.network(z))
    parts = z.reshape(-1, z.shape[-1]).split(chunk)
    output = torch.cat([block.network(part) for part in parts])
    return block.join(bypass, output.view(z.shape))
