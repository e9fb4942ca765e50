"""The two sites where Theorem 2.2 applies in a block: what is read there, and what follows.

At `"network"` the network's first dense layers read `z`, beside a bypass. At `"out-proj"` the layer's own output
projection reads what the layer mixed, and everything after it is the theorem's `f`, so nothing bypasses the site.
"""

import torch
from torch import Tensor

from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate, Site


def read_at(
    site: Site,
    block: ContextualBlock,
    query: Tensor,  # (…, d)
    context: Tensor,  # (…, n, d_context)
) -> Read:
    """What the site reads at the query."""
    if site == "network":
        return block.contextualize(query, context)
    return Read(block.projected_layer().mix(block.enter(query), block.enter(context)), None)


def read_causal_at(
    site: Site,
    block: ContextualBlock,
    queries: Tensor,  # (…, n + 1, d)
    context: Tensor,  # (…, n, d_context)
) -> Read:
    """What the site reads at `q_i` after `c_1 … c_i`, `i = 0 … n`."""
    if site == "network":
        return block.contextualize_causal(queries, context)
    layer, queries, context = block.projected_layer(), block.enter(queries), block.enter(context)
    rows = [layer.mix(queries[..., i, :], context[..., :i, :]) for i in range(queries.shape[-2])]
    return Read(torch.stack(rows, dim=-2), None)


def complete_at(
    site: Site,
    block: ContextualBlock,
    query: Tensor,  # (…, d)
    read: Read,
    update: ImplicitUpdate | None = None,
) -> Tensor:  # (…, d)
    """The block's output from what the site read, with the update in place if given."""
    if site == "network":
        return block.complete(read, update)
    layer = block.projected_layer()
    mixed = read.z if update is None else update.operator.apply(read.z)
    return block.complete(block.split(query, layer.finish(block.enter(query), layer.projection(mixed))))
