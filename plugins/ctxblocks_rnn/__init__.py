"""Recurrent layers `rnn`, `gru` and `lstm`: a cell runs over the context token by token, and over the query last."""

from ctxblocks import LayerSpec, Traits, hookimpl
from ctxblocks_rnn.cells import GRU, LSTM, RNN
from ctxblocks_rnn.config import GRUConfig, LSTMConfig, RNNConfig
from ctxblocks_rnn.reference import reference

__all__ = ["GRU", "LSTM", "RNN", "GRUConfig", "LSTMConfig", "RNNConfig", "ctxblocks_layers"]


def _traits(config: RNNConfig | GRUConfig | LSTMConfig) -> Traits:
    return Traits(positional=True)


@hookimpl
def ctxblocks_layers() -> list[LayerSpec]:
    """The recurrent layers."""
    return [
        LayerSpec(
            name="rnn",
            summary="Elman RNN with an output projection",
            config=RNNConfig,
            build=RNN,
            examples=(
                RNNConfig(width=4),
                RNNConfig(width=3, hidden=8, nonlinearity="relu"),
                RNNConfig(width=5, hidden=3, bias=False),
            ),
            traits=_traits,
            reference=reference,
        ),
        LayerSpec(
            name="gru",
            summary="gated recurrent unit with an output projection",
            config=GRUConfig,
            build=GRU,
            examples=(GRUConfig(width=4), GRUConfig(width=3, hidden=6), GRUConfig(width=5, hidden=3, bias=False)),
            traits=_traits,
            reference=reference,
        ),
        LayerSpec(
            name="lstm",
            summary="long short-term memory with an output projection",
            config=LSTMConfig,
            build=LSTM,
            examples=(LSTMConfig(width=4), LSTMConfig(width=3, hidden=6), LSTMConfig(width=5, hidden=3, bias=False)),
            traits=_traits,
            reference=reference,
        ),
    ]
