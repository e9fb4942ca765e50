"""A trace as columns, one for each token of the prompt that has an effect."""

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from ctxblocks import ShapeError
from ctxblocks_transformers.prefixes.measures import MEASURES
from ctxblocks_transformers.prefixes.prompt_dynamics import PromptDynamics


@dataclasses.dataclass(frozen=True)
class Columns:
    """The part of a trace that is drawn.

    Attributes:
        tokens: the texts of the prompt's tokens.
        first: the index of the token that the first column belongs to.
        values: every measure by name, `(blocks, columns)`; the last token has a column only with `queries="every"`.
    """

    tokens: tuple[str, ...]
    first: int
    values: dict[str, Tensor]


def columns_of(dynamics: PromptDynamics, tokens: Sequence[str] | None = None) -> Columns:
    """The columns of a trace.

    With `queries="last"`, column `j` holds the change by token `j` and the update after it; with `"every"`, the update of
    token `j` as the query.

    Raises:
        ShapeError: the number of texts is not the number of tokens.
    """
    ids = dynamics.input_ids[0].tolist()
    names = [f"{i} " for i in ids] if tokens is None else list(tokens)
    if len(names) != len(ids):
        raise ShapeError(f"tokens: got {len(names)}, needs {len(ids)}, one for each token of the prompt")
    values = {name: dynamics.measures[name][:, -(len(ids) - 1) :] for name in MEASURES}
    return Columns(tuple(names), 0 if dynamics.queries == "last" else 1, values)


def middle(name: str) -> float | None:
    """The value that colours of a signed measure are centred on; None for a length, whose colours are logarithmic."""
    return {"alignment": 0.0, "determinant": 1.0}.get(name)
