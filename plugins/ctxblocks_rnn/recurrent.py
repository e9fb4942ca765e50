"""The base class of RNN, GRU and LSTM: one fused pass over the tokens, then one batched cell step for the queries.

A step of a cell consists of a product with the token, a product with the previous output, and elementwise gates:
`s_t = gates(U c_t, V h_{t−1}, s_{t−1})`, where `h` is the first part of the state `s`, and `s_0 = 0`. So `A(C_i, q_i)` for
all `i` needs the outputs `h_0 … h_n` of one pass over the context, and one step for all queries at once.
"""

import abc
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from ctxblocks import ArgumentError, ProjectedLayer, has_hooks, inside_transform
from ctxblocks_rnn.config import RecurrentConfig

State = tuple[Tensor, ...]  # each (…, hidden); the first is the cell's output
Fused = Callable[..., tuple[Tensor, ...]]


class RecurrentLayer(ProjectedLayer):
    """`mix(x, C)` is the output of a recurrent cell after the tokens `c_1 … c_n` and then `x`, from a zero state.

    Args:
        config: the sizes.
        mode: torch's name for the cell, such as "GRU".
        parts: number of tensors in a state.
    """

    summed: bool = True
    """Whether `gates` depends only on the sum of its two products."""
    block: int = 1024
    """Tokens processed in one pass; the outputs do not depend on it."""

    def __init__(self, config: RecurrentConfig, mode: str, parts: int = 1) -> None:
        super().__init__(config.width)
        # not nn.RNN, nn.GRU or nn.LSTM, which torch.compile does not trace
        self.recurrence = nn.RNNBase(mode, config.width, config.state_width, bias=config.bias, batch_first=True)
        self.projection = nn.Linear(config.state_width, config.width, bias=False)
        self.parts = parts

    @abc.abstractmethod
    def gates(
        self,
        inputs: Tensor,  # (…, g·hidden): U c_t
        recurrent: Tensor,  # (…, g·hidden): V h_{t−1}
        state: State,  # each (…, hidden): s_{t−1}
    ) -> State:  # each (…, hidden)
        """The elementwise part of one step of the cell."""

    @abc.abstractmethod
    def fused(self) -> Fused:
        """Torch's function for one pass over all tokens."""

    def complete(
        self,
        tokens: Tensor,  # (…, n, d): c_1 … c_n
        recurrent: Tensor,  # (…, n + 1, g·hidden): V h_0 … V h_n
        outputs: Tensor,  # (…, n + 1, hidden): h_0 … h_n
        start: State,  # each (…, hidden): s_0
    ) -> State:  # each (…, n + 1, hidden)
        """The states `s_0 … s_n`, given their outputs; by default the output is the whole state."""
        return (outputs,)

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, hidden)
        """The cell's output after the context and the query."""
        tokens = torch.cat([context, query.unsqueeze(-2)], dim=-2)
        return self.outputs(tokens, self.zero_state(query))[1][0]

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """One pass over the context, then one step for all queries; see `ContextualLayer.causal`."""
        self.check_causal(queries, context)
        return self._after_context(queries, context)

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """As `causal`, with the query's product computed once; see `ContextualLayer.prefixes`."""
        self.check_call(query, context)
        return self._after_context(query.unsqueeze(-2), context)

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """`n` steps, each for all suffixes that have begun by then; see `ContextualLayer.suffixes`."""
        self.check_call(query, context)
        fresh = self.zero_state(query.unsqueeze(-2))
        state = fresh
        for inputs in self.input_product(context).unbind(-2):
            advanced = self.step(inputs.unsqueeze(-2), state)
            state = tuple(torch.cat(pair, dim=-2) for pair in zip(advanced, fresh, strict=True))
        rows: Tensor = self.projection(self.step(self.input_product(query).unsqueeze(-2), state)[0])
        return rows

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """One pass over the tokens; see `ContextualLayer.sequence`."""
        self.check_sequence(tokens)
        state = self.zero_state(tokens[..., :0, :].sum(-2))
        rows = [tokens[..., :0, :]]
        for block in torch.split(tokens, self.block, dim=-2):
            outputs, state = self.outputs(block, state)
            rows.append(self.projection(outputs))
        return torch.cat(rows, dim=-2)

    def state_size(self, tokens: int) -> int:
        """The state of the cell: `hidden` numbers for each of its parts."""
        self.check_state_size(tokens)
        return self.parts * self.projection.in_features

    def outputs(
        self,
        tokens: Tensor,  # (…, n, d)
        start: State,  # each (…, hidden): s_0
    ) -> tuple[Tensor, State]:  # (…, n, hidden), each (…, hidden)
        """`h_1 … h_n` and `s_n` by torch's fused pass; inside transforms and in forward mode, where it may fail, by `looped`."""
        weights = [w for pair in zip(self._pair("ih"), self._pair("hh"), strict=True) for w in pair]
        dual = any(unpack_dual(each).tangent is not None for each in (tokens, *start, *weights))
        if inside_transform() or dual or tokens.numel() == 0:
            return self.looped(tokens, start)
        batch = tokens.shape[:-2]
        flat = tokens.reshape(math.prod(batch), *tokens.shape[-2:])
        before = tuple(part.reshape(1, len(flat), -1) for part in start)
        # train=True keeps what a backward pass needs, also in eval mode; its other effect, dropout, is off
        outputs, *state = self.fused()(
            flat, before if self.parts == 2 else before[0], weights, self.recurrence.bias, 1, 0.0, True, False, True
        )
        return outputs.reshape(*batch, *outputs.shape[-2:]), tuple(part.reshape(*batch, -1) for part in state)

    def looped(
        self,
        tokens: Tensor,  # (…, n, d)
        start: State,  # each (…, hidden): s_0
    ) -> tuple[Tensor, State]:  # (…, n, hidden), each (…, hidden)
        """`h_1 … h_n` and `s_n` by one cell step per token."""
        state, rows = start, [start[0].unsqueeze(-2)[..., :0, :]]
        for inputs in self.input_product(tokens).unbind(-2):
            state = self.step(inputs, state)
            rows.append(state[0].unsqueeze(-2))
        return torch.cat(rows, dim=-2), state

    def step(
        self,
        inputs: Tensor,  # (…, g·hidden): U c_t
        state: State,  # each (…, hidden)
    ) -> State:  # each (…, hidden)
        """One step of the cell."""
        return self.gates(inputs, self.hidden_product(state[0]), state)

    def input_product(
        self,
        tokens: Tensor,  # (…, d)
        rows: int | None = None,
    ) -> Tensor:  # (…, g·hidden), or its first `rows` entries
        """`U c + b`; where `summed`, `b` is the sum of both biases."""
        weight, *bias = (part[:rows] for part in self._pair("ih"))
        if self.summed:
            bias = [sum(bias, start=other[:rows]) for other in self._pair("hh")[1:]]
        return F.linear(tokens, weight, *bias)

    def hidden_product(
        self,
        outputs: Tensor,  # (…, hidden)
    ) -> Tensor:  # (…, g·hidden)
        """`V h + b`; where `summed`, without `b`, which `input_product` includes."""
        weight, *bias = self._pair("hh")
        return F.linear(outputs, weight) if self.summed else F.linear(outputs, weight, *bias)

    def zero_state(
        self,
        like: Tensor,  # (…, d)
    ) -> State:  # each (…, hidden)
        """`s_0`, with the batch shape of `like`."""
        return (like.new_zeros(*like.shape[:-1], self.projection.in_features),) * self.parts

    def _after_context(
        self,
        queries: Tensor,  # (…, n + 1 or 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """The outputs for queries after the first `0 … n` tokens, block by block."""
        n = context.shape[-2]
        state = self.zero_state(queries[..., 0, :])
        rows = []
        for start in range(0, max(n, 1), self.block):
            tokens = context[..., start : start + self.block, :]
            is_last = start + self.block >= n  # else the last state belongs to the next block
            count = tokens.shape[-2] + is_last
            own = queries if queries.shape[-2] == 1 else queries[..., start : start + count, :]
            outputs, state = self._after_block(own, tokens, state, count)
            rows.append(self.projection(outputs))
        return torch.cat(rows, dim=-2)

    def _after_block(
        self,
        queries: Tensor,  # (…, count or 1, d)
        tokens: Tensor,  # (…, m, d)
        state: State,  # each (…, hidden), before the tokens
        count: int,
    ) -> tuple[Tensor, State]:  # (…, count, hidden), each (…, hidden)
        """The cell's outputs for queries after the first `0, 1, …` tokens, and the state after all tokens."""
        outputs = torch.cat([state[0].unsqueeze(-2), self.outputs(tokens, state)[0]], dim=-2)
        recurrent = self.hidden_product(outputs)
        states = self.complete(tokens, recurrent, outputs, state)
        parts = (part[..., :count, :] for part in (recurrent, *states))
        mixed = self.gates(self.input_product(queries), next(parts), tuple(parts))[0]
        return mixed, tuple(part[..., -1, :].clone() for part in states)

    def _pair(self, product: str) -> list[Tensor]:
        """The weight of the input ("ih") or hidden ("hh") product, and its bias if it has one.

        Raises:
            ArgumentError: the cell has hooks, which would have no effect, since its weights are read step by step.
        """
        if has_hooks(self.recurrence):
            raise ArgumentError(
                f"recurrence: got hooks on the cell of {type(self).__name__}, needs none, since its weights are read; "
                "hook the layer itself, or use torch.nn.utils.parametrize for its weights"
            )
        names = ("weight", "bias") if self.recurrence.bias else ("weight",)
        return [getattr(self.recurrence, f"{name}_{product}_l0") for name in names]
