"""The result of `trace`: the effect of every token of a prompt on the weights of every block."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from ctxblocks import ArgumentError, FamilySpec, ImplicitUpdate
from ctxblocks_transformers.prefixes.measures import MEASURES, RENAMED
from ctxblocks_transformers.wiring.keep import Kept

Queries = Literal["last", "every"]
NONE = Kept((), "")
"""No token is kept."""


@dataclasses.dataclass(frozen=True, eq=False)
class PromptDynamics:
    """The implicit dynamics of a prompt in every block of a language model [Sec. 3, Prop. 3.1, block by block].

    With `queries="last"`, update `i = 0 … n` of a block stands for the first `i` tokens, with the prompt's last token at
    position `i` as the query. With `"every"` it stands for the tokens before token `i`, with token `i` as the query.

    Attributes:
        measures: by name, `(blocks, n + 1)`, or `(blocks, n)` for measures of successive updates; see `MEASURES`.
        sites: the site of each block's update: `"network"`, `"out-proj"`, or "" for a block that reads no other token.
        family: the family whose wiring the model follows.
        input_ids: `(1, n + 1)`, the prompt.
        queries: `"last"` or `"every"`.
        route: how the reads were computed, such as `"copies, by self slot"`.
        deviation: largest difference of a block's last read from that of an ordinary pass, relative to its size.
        updates: one for each block, batched `(n + 1,)`, if they were kept; None for a block without a site.
        model_type: the model type of the configuration.
        kept: the leading tokens that every query reads without context too; their steps are zero.
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
    kept: Kept = NONE

    def measure(self, name: str) -> Tensor:  # (blocks, n + 1), or (blocks, n)
        """One measure by its name.

        Raises:
            ArgumentError: no measure has that name.
        """
        if name in RENAMED:
            raise ArgumentError(f"measure: got {name!r}, needs {RENAMED[name]!r}, its present name")
        if name not in self.measures:
            raise ArgumentError(f"measure: got {name!r}, needs one of {', '.join(map(repr, MEASURES))}")
        return self.measures[name]

    def as_json(self, tokens: Sequence[str] | None = None) -> dict[str, Any]:
        """Everything but the updates as JSON values; `tokens` are the texts of the prompt's tokens."""
        return {
            "model_type": self.model_type,
            "family": self.family.name,
            "queries": self.queries,
            "route": self.route,
            "deviation": self.deviation,
            "input_ids": self.input_ids[0].tolist(),
            "tokens": None if tokens is None else list(tokens),
            "kept": {"positions": list(self.kept.positions), "reason": self.kept.reason},
            "sites": list(self.sites),
            "measures": {name: values.tolist() for name, values in self.measures.items()},
        }
