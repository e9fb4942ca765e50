"""The recurrent layers: Elman's RNN, the gated recurrent unit and the long short-term memory, as torch defines them."""

from collections.abc import Callable

import torch
from torch import Tensor

from ctxblocks.numerics import linear_recurrence
from ctxblocks_rnn.config import GRUConfig, LSTMConfig, RNNConfig
from ctxblocks_rnn.recurrent import Fused, RecurrentLayer, State


class RNN(RecurrentLayer):
    """`h_t = tanh(U c_t + V h_{t−1})`, or with relu instead of tanh."""

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config, f"RNN_{config.nonlinearity.upper()}")
        self.nonlinearity = config.nonlinearity

    def gates(self, inputs: Tensor, recurrent: Tensor, state: State) -> State:
        """The nonlinearity of the sum of both products."""
        total = inputs + recurrent
        return (torch.tanh(total) if self.nonlinearity == "tanh" else torch.relu(total),)

    def fused(self) -> Fused:
        """`torch.rnn_tanh` or `torch.rnn_relu`."""
        return torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu


class GRU(RecurrentLayer):
    """`h_t = p + z ⊙ (h_{t−1} − p)`, `p = tanh((U c_t)_p + r ⊙ (V h_{t−1})_p)`, with gates `z` (update) and `r` (reset)."""

    summed = False  # the reset gate scales only one of the two products

    def __init__(self, config: GRUConfig) -> None:
        super().__init__(config, "GRU")

    def gates(self, inputs: Tensor, recurrent: Tensor, state: State) -> State:
        """Interpolates between the candidate and the previous output by the update gate."""
        (before,) = state
        both = 2 * before.shape[-1]
        reset, update = torch.sigmoid(inputs[..., :both] + recurrent[..., :both]).chunk(2, dim=-1)
        new = torch.tanh(inputs[..., both:] + reset * recurrent[..., both:])
        return (torch.lerp(new, before, update),)

    def fused(self) -> Fused:
        """`torch.gru`."""
        return torch.gru


class LSTM(RecurrentLayer):
    """`h_t = o ⊙ tanh(m_t)`, `m_t = f ⊙ m_{t−1} + i ⊙ g`: input, forget and output gates, candidate `g`, memory `m`."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config, "LSTM", parts=2)

    def gates(self, inputs: Tensor, recurrent: Tensor, state: State) -> State:
        """The new memory, and the output as its tanh times the output gate."""
        _, memory = state
        enter, forget, new, leave = _squashed(
            inputs, recurrent, (torch.sigmoid, torch.sigmoid, torch.tanh, torch.sigmoid)
        )
        memory = torch.addcmul(enter * new, forget, memory)
        return leave * torch.tanh(memory), memory

    def complete(self, tokens: Tensor, recurrent: Tensor, outputs: Tensor, start: State) -> State:
        """The memories `m_0 … m_n`, which torch does not return, recomputed from the gates of all steps at once."""
        hidden = outputs.shape[-1]
        rows = 3 * hidden  # all but the output gate
        inputs, recurrent = self.input_product(tokens, rows), recurrent[..., :-1, :rows]
        enter, forget, new = _squashed(inputs, recurrent, (torch.sigmoid, torch.sigmoid, torch.tanh))
        memories = linear_recurrence(forget, enter * new, start[1])
        return outputs, torch.cat([start[1].unsqueeze(-2), memories], dim=-2)

    def fused(self) -> Fused:
        """`torch.lstm`."""
        return torch.lstm


def _squashed(
    inputs: Tensor,  # (…, g·hidden)
    recurrent: Tensor,  # (…, g·hidden)
    functions: tuple[Callable[[Tensor], Tensor], ...],  # g of them
) -> list[Tensor]:  # g of (…, hidden)
    """`function(a + b)` gate by gate, so that each sum is still in the cache when the function is applied."""
    pairs = zip(inputs.chunk(len(functions), dim=-1), recurrent.chunk(len(functions), dim=-1), strict=True)
    return [function(a + b) for function, (a, b) in zip(functions, pairs, strict=True)]
