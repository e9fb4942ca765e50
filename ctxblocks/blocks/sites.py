"""The two sites of a block, the dense layers whose update can replace a context.

Site `"network"` is the input projections of the block's network, with input `z`, next to a residual stream `r`. Site
`"out-proj"` is the output projection of the contextual layer. Everything after it is the function `f` of Theorem 2.2, so it
has no residual stream.
"""

import dataclasses
from collections.abc import Callable

from torch import Tensor, nn

from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate

SITES = ("network", "out-proj")


@dataclasses.dataclass(frozen=True)
class Site:
    """A site of one block, made by `ContextualBlock.site`.

    Attributes:
        readers: `() -> {name: module}`, the projections whose weights the operator multiplies.
        read: `(query (…, d), context (…, n, d_context)) -> Read`, the input of the site at the query.
        read_causal: `(queries (…, n + 1, d), context) -> Read`, the same for `q_i` after `c_1 … c_i`, `i = 0 … n`.
        complete: `(query, read, update or None) -> (…, d)`, the block's output from the read, with the update applied.
        network_input: as `complete`, but for the input of the block's network, after the operator.
    """

    readers: Callable[[], dict[str, nn.Linear]]
    read: Callable[[Tensor, Tensor], Read]
    read_causal: Callable[[Tensor, Tensor], Read]
    complete: Callable[[Tensor, Read, ImplicitUpdate | None], Tensor]
    network_input: Callable[[Tensor, Read, ImplicitUpdate | None], Tensor]
