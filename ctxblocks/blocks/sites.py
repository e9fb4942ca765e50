"""The two sites of a block where a context can be exchanged for an update: what is read there, and what follows.

At `"network"` the input projections of the block's network read `z`, next to a residual stream `r`. At `"out-proj"` the
layer's own output projection reads what the layer mixed; everything after it is the theorem's `f`, so nothing bypasses it.
"""

import dataclasses
from collections.abc import Callable

from torch import Tensor, nn

from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate

SITES = ("network", "out-proj")


@dataclasses.dataclass(frozen=True)
class Site:
    """A site of one block, as the block describes it.

    Attributes:
        readers: the input projections that take the operator, by name.
        read: `(query (…, d), context (…, n, d_context)) -> Read`, the input of the site at the query.
        read_causal: `(queries (…, n + 1, d), context) -> Read`, the same at `q_i` after `c_1 … c_i`, `i = 0 … n`.
        complete: `(query, read, update or None) -> (…, d)`, the block's output from that input, with the update in place.
        network_input: the same for the input of the block's network, after the operator.
    """

    readers: dict[str, nn.Linear]
    read: Callable[[Tensor, Tensor], Read]
    read_causal: Callable[[Tensor, Tensor], Read]
    complete: Callable[[Tensor, Read, ImplicitUpdate | None], Tensor]
    network_input: Callable[[Tensor, Read, ImplicitUpdate | None], Tensor]
