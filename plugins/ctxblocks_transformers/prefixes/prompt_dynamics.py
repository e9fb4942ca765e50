"""What every token of a prompt does to the weights of every block."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from ctxblocks import ArgumentError, FamilySpec, ImplicitUpdate
from ctxblocks_transformers.prefixes.measures import MEASURES

Queries = Literal["last", "every"]


@dataclasses.dataclass(frozen=True, eq=False)
class PromptDynamics:
    """The implicit dynamics of a prompt in every block of a language model [Sec. 3, Prop. 3.1, block by block].

    With `queries="last"` the update `i = 0 … n` of a block is what the first `i` tokens do to its weights for the prompt's
    last token, at position `i`. With `"every"` it is what the tokens before token `i` do for that token as its own query.

    Attributes:
        measures: by name, `(blocks, n + 1)`, or `(blocks, n)` for what lies between two updates; see `MEASURES`.
        sites: where each block's update goes: `"network"`, `"out-proj"`, or "" for a block that reads no other token.
        family: how the model is wired.
        input_ids: `(1, n + 1)`, the prompt.
        queries: `"last"` or `"every"`.
        route: how the reads were found, such as `"copies, by self slot"`.
        deviation: largest difference of the last read of any block from that of an ordinary pass, relative to its size.
        updates: one for each block, batched `(n + 1,)`, where they were asked for; None for a block without a site.
        model_type: of the model's configuration.
    """

    measures: dict[str, Tensor]
    sites: tuple[str, ...]
    family: FamilySpec
    input_ids: Tensor
    queries: Queries
    route: str
    deviation: float
    updates: tuple[ImplicitUpdate | None, ...] | None
    model_type: str

    def measure(self, name: str) -> Tensor:  # (blocks, n + 1), or (blocks, n)
        """One measure by its name.

        Raises:
            ArgumentError: no measure has that name.
        """
        if name not in self.measures:
            raise ArgumentError(f"measure: got {name!r}, needs one of {', '.join(map(repr, MEASURES))}")
        return self.measures[name]

    def as_json(self, tokens: Sequence[str] | None = None) -> dict[str, Any]:
        """Everything but the updates, in numbers and words; `tokens` are the prompt's, as they are to be shown."""
        return {
            "model_type": self.model_type,
            "family": self.family.name,
            "queries": self.queries,
            "route": self.route,
            "deviation": self.deviation,
            "input_ids": self.input_ids[0].tolist(),
            "tokens": None if tokens is None else list(tokens),
            "sites": list(self.sites),
            "measures": {name: values.tolist() for name, values in self.measures.items()},
        }
