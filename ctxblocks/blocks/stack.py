"""Stacks of contextual blocks [App. C]."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ctxblocks.base.checks import check_call
from ctxblocks.base.errors import ArgumentError, ShapeError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.update import ImplicitUpdate


class Stack(nn.Module):
    """Blocks in sequence, causal: context tokens go through `sequence` of each block and are the context of the query there.

    The activations of the context do not depend on the query.

    Args:
        blocks: one block or more, all of the same width.
        read_in: maps context and query to the width of the blocks; None is the identity.
        read_out: maps the output of the last block; None is the identity.
    """

    def __init__(
        self, blocks: Sequence[ContextualBlock], read_in: nn.Module | None = None, read_out: nn.Module | None = None
    ) -> None:
        super().__init__()
        if not blocks:
            raise ArgumentError("blocks: got none, needs at least one ContextualBlock")
        for number, block in enumerate(blocks):
            if block.width != blocks[0].width or block.layer.context_width != block.width:
                raise ShapeError(
                    f"blocks: block {number} has width {block.width} and context_width {block.layer.context_width}, "
                    f"needs {blocks[0].width} for both as block 0 has; build it with that width"
                )
        self.blocks = nn.ModuleList(blocks)
        self.read_in = nn.Identity() if read_in is None else read_in
        self.read_out = nn.Identity() if read_out is None else read_out

    def __iter__(self) -> Iterator[ContextualBlock]:
        for block in self.blocks:
            assert isinstance(block, ContextualBlock)
            yield block

    @property
    def in_order(self) -> tuple[ContextualBlock, ...]:
        """The blocks, from first to last."""
        return tuple(self)

    def __len__(self) -> int:
        return len(self.blocks)

    def activations(
        self,
        query: Tensor,  # (…, d_in)
        context: Tensor | None = None,  # (…, n, d_in); None is no tokens
        update: Sequence[ImplicitUpdate] | None = None,
    ) -> list[Tensor]:  # L of (…, d)
        """`t^{(ℓ)}`: the query's activation after every block [Eq. 17].

        Raises:
            ArgumentError: the number of updates is not the number of blocks.
        """
        self.check_call(query, query.unsqueeze(-2)[..., :0, :] if context is None else context)
        updates = self._updates(update)
        activation = self.read_in(query)
        tokens = next(iter(self)).no_tokens(activation) if context is None else self.read_in(context)
        outputs = []
        for number, (block, patch) in enumerate(zip(self, updates, strict=True)):
            activation, before = block(activation, tokens, patch), tokens
            outputs.append(activation)
            if number + 1 < len(self):
                tokens = block.sequence(before, patch[..., :-1] if patch is not None and patch.per_token else None)
        return outputs

    def forward(
        self,
        query: Tensor,  # (…, d_in)
        context: Tensor | None = None,  # (…, n, d_in); None is no tokens
        update: Sequence[ImplicitUpdate] | None = None,
    ) -> Tensor:  # (…, d_out)
        """The output at the query, with one update applied in every block if given.

        Updates made with `patch_kept=True` contain one for every context token too.
        """
        output: Tensor = self.read_out(self.activations(query, context, update)[-1])
        return output

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d_in)
        update: Sequence[ImplicitUpdate] | None = None,  # batched (…, n)
    ) -> Tensor:  # (…, n, d_out)
        """The output at every token with the tokens before it as context, each with its own updates if given."""
        activation = self.read_in(tokens)
        for block, patch in zip(self, self._updates(update), strict=True):
            activation = block.sequence(activation, patch)
        output: Tensor = self.read_out(activation)
        return output

    def prefixes(
        self,
        query: Tensor,  # (…, d_in)
        context: Tensor,  # (…, n, d_in)
    ) -> Tensor:  # (…, n + 1, d_out)
        """`T(C_i, x)` for `i = 0 … n`: `n + 1` copies of the query in parallel, with one forward pass over the context.

        The first block uses one copy for all prefixes. The outputs of the last block for the context are not computed.
        """
        self.check_call(query, context)
        copies, tokens = self.read_in(query).unsqueeze(-2), self.read_in(context)
        for number, block in enumerate(self):
            copies = block.complete(block.contextualize_prefixes(copies, tokens))
            if number + 1 < len(self):
                tokens = block.sequence(tokens)
        output: Tensor = self.read_out(copies)
        return output

    def check_call(self, query: Tensor, context: Tensor, name: str = "context") -> None:
        """Raise unless query and context fit `read_in` and each other."""
        known = self.read_in.in_features if isinstance(self.read_in, nn.Linear) else None
        if isinstance(self.read_in, nn.Identity):
            known = next(iter(self)).width
        width = query.shape[-1] if known is None and query.dim() else known or 1
        check_call(self, query, context, width, width, name)

    def _updates(self, update: Sequence[ImplicitUpdate] | None) -> Sequence[ImplicitUpdate | None]:
        if update is None:
            return [None] * len(self)
        if isinstance(update, ImplicitUpdate) or len(update) != len(self):
            got = "a single one" if isinstance(update, ImplicitUpdate) else f"{len(update)}"
            raise ArgumentError(
                f"update: got {got}, needs one for each of {len(self)} blocks, as transfer(stack, …) gives"
            )
        return update
