"""What changed weights are for: one query at one position. Said where they are made, and held to where they are called."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, ShapeError
from ctxblocks_transformers.export.changes import Update
from ctxblocks_transformers.wiring.calling import inputs_of

INSTEAD = "for further tokens use replay(model, …), for another query make another update"
"""What to use where changed weights are not right."""


class OneQueryWarning(UserWarning):
    """Weights were changed for one query at one position; for other tokens they are not right."""


def purpose(update: Update) -> str:
    """What the changed weights are for, in one line."""
    positions, row = update.positions.tolist(), update.query
    kept = [place for t, place in enumerate(positions) if t != row]
    after = f" after the kept tokens at {', '.join(map(str, kept))}" if kept else ""
    token = int(update.input_ids[0, positions[row]])
    return f"the weights are for one query, token {token} at position {positions[row]}{after}; {INSTEAD}"


@dataclasses.dataclass(frozen=True)
class Remaining:
    """A forward pre-hook that gives the remaining tokens their positions in the prompt, and refuses other calls.

    Attributes:
        tokens: `(1, tokens)`, the remaining tokens.
        positions: `(tokens,)`, their positions.
    """

    tokens: Tensor
    positions: Tensor

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments with the positions filled in.

        Raises:
            ShapeError: the call has other tokens in number.
            ArgumentError: it has other tokens, other positions, or a cache that holds tokens.
        """
        ids = args[0] if args else kwargs.get("input_ids")
        given = {name: value for name, value in kwargs.items() if value is not None}
        if not isinstance(ids, Tensor) or ids.shape != self.tokens.shape:
            got = tuple(ids.shape) if isinstance(ids, Tensor) else None
            raise ShapeError(
                f"input_ids: got shape {got}, needs {tuple(self.tokens.shape)}, the tokens they were made for; {INSTEAD}"
            )
        if not torch.equal(ids.cpu(), self.tokens.cpu()):
            raise ArgumentError(
                f"input_ids: got {ids[0].tolist()[:8]}, needs {self.tokens[0].tolist()[:8]}, the tokens they were made for; "
                f"{INSTEAD}"
            )
        self._refuse_cache(given.get("past_key_values"))
        filled = inputs_of(module, ids, self.positions)
        self._refuse_positions(given.get("position_ids"), filled.get("position_ids"))
        filled = {**filled, **given}
        if args:
            del filled["input_ids"]
        return args, filled

    def _refuse_cache(self, cache: Any) -> None:
        seen = 0 if cache is None else int(cache.get_seq_length())
        if seen:
            raise ArgumentError(
                f"past_key_values: got a cache of {seen} tokens, needs none, since the weights stand for the prompt; {INSTEAD}"
            )

    def _refuse_positions(self, got: Tensor | None, needed: Tensor | None) -> None:
        if got is not None and needed is not None and not torch.equal(got.cpu().expand_as(needed), needed.cpu()):
            raise ArgumentError(
                f"position_ids: got {got.flatten().tolist()[:8]}, needs {needed.flatten().tolist()[:8]}, the positions in the "
                f"prompt; leave them out"
            )
