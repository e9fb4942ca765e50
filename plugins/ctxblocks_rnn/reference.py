"""Torch's recurrent modules with a layer's weights."""

import copy
from collections.abc import Callable

from torch import Tensor, nn

from ctxblocks_rnn.recurrent import RecurrentLayer


def reference(layer: RecurrentLayer) -> Callable[[Tensor], Tensor]:  # (batch, n, d) -> (batch, n, d)
    """`nn.RNN`, `nn.GRU` or `nn.LSTM`, followed by the projection."""
    mode, bias, sizes = layer.recurrence.mode, layer.recurrence.bias, (layer.width, layer.projection.in_features)
    theirs: nn.RNNBase
    if mode == "LSTM":
        theirs = nn.LSTM(*sizes, bias=bias, batch_first=True)
    elif mode == "GRU":
        theirs = nn.GRU(*sizes, bias=bias, batch_first=True)
    else:
        theirs = nn.RNN(*sizes, bias=bias, batch_first=True, nonlinearity=mode.removeprefix("RNN_").lower())
    theirs.load_state_dict(layer.recurrence.state_dict())
    theirs = theirs.to(layer.projection.weight.device, layer.projection.weight.dtype).eval()
    projection = copy.deepcopy(layer.projection)

    def sequence(tokens: Tensor) -> Tensor:
        outputs: Tensor = projection(theirs(tokens)[0])
        return outputs

    return sequence
