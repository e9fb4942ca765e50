"""A trace as columns: one for each token of the prompt that did something."""

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from ctxblocks import ShapeError
from ctxblocks_transformers.prefixes.measures import MEASURES
from ctxblocks_transformers.prefixes.prompt_dynamics import PromptDynamics

SIGNED = ("alignment", "determinant")
"""Measures that are shown around a middle; the others are lengths, and are shown by their logarithm."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """What is drawn of a trace.

    Attributes:
        tokens: the prompt's, as they are to be shown.
        first: the token that the first column belongs to.
        values: of every measure `(blocks, columns)`; the last token has a column of its own only as its own query.
    """

    tokens: tuple[str, ...]
    first: int
    values: dict[str, Tensor]


def columns_of(found: PromptDynamics, tokens: Sequence[str] | None = None) -> Columns:
    """Of all prefixes, column `j` is what token `j` adds and what stands once it is in; of single queries, what each has.

    Raises:
        ShapeError: there are not as many names as tokens.
    """
    ids = found.input_ids[0].tolist()
    names = [f"{i} " for i in ids] if tokens is None else list(tokens)
    if len(names) != len(ids):
        raise ShapeError(f"tokens: got {len(names)}, needs {len(ids)}, one for each token of the prompt")
    values = {name: found.measures[name][:, -(len(ids) - 1) :] for name in MEASURES}
    return Columns(tuple(names), 0 if found.queries == "last" else 1, values)


def middle(name: str) -> float | None:
    """The value that a signed measure is shown around, None for a length."""
    return {"alignment": 0.0, "determinant": 1.0}.get(name)
