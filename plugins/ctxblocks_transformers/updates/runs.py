"""A model called on token after token: what it has seen is in its cache, or is computed again."""

from typing import Any, Literal

import torch
from torch import Tensor

from ctxblocks import ArgumentError
from ctxblocks_transformers.updates.model_update import inputs_of
from ctxblocks_transformers.wiring.checks import accepted
from ctxblocks_transformers.wiring.family import round_off
from ctxblocks_transformers.wiring.guess import probe_tokens
from ctxblocks_transformers.wiring.hooks import Hooks
from ctxblocks_transformers.wiring.reads import outputs_of

Route = Literal["cache", "recompute"]
CACHES = ("past_key_values", "cache_params")
"""What models call their cache, in their arguments and in what they return."""
LENGTH = 6
"""Tokens that a model's cache is tried on."""


class Run:
    """One sequence, which grows.

    Attributes:
        model: the user's.
        route: whether earlier tokens are in the model's cache or are computed again.
        ids: `(1, tokens)`, all that it was called on.
        positions: `(tokens,)`, theirs.
    """

    def __init__(self, model: Any, route: Route) -> None:
        self.model, self.route = model, route
        self.name = next((name for name in CACHES if name in accepted(model)), "")
        self.cache: Any = None
        self.ids = torch.empty(1, 0, dtype=torch.int64, device=model.get_input_embeddings().weight.device)
        self.positions = torch.empty(0, dtype=torch.int64)

    def add(
        self,
        hooks: Hooks,
        ids: Tensor,  # (1, n)
        positions: Tensor,  # (n,)
    ) -> dict[str, Any]:
        """Tokens more: what to call the model with, once, while the hooks are there."""
        self.ids = torch.cat([self.ids, ids.to(self.ids)], dim=1)
        self.positions = torch.cat([self.positions, positions.to(self.positions)])
        if self.route == "recompute":
            return inputs_of(self.model, self.ids, self.positions)
        hooks.result(self.model, self._keep)
        found = inputs_of(self.model, ids.to(self.ids), positions)
        if "attention_mask" in found:
            found["attention_mask"] = torch.ones_like(self.ids)
        return {**found, "use_cache": True, self.name: self.cache}

    def call(self, ids: Tensor, positions: Tensor) -> Tensor:  # (n or tokens, vocabulary)
        """The outputs of the tokens that the model is called on."""
        with Hooks() as hooks:
            return outputs_of(self.model(**self.add(hooks, ids, positions)))

    def _keep(self, result: Any) -> None:
        self.cache = getattr(result, self.name, None)


def route_of(model: Any) -> Route:
    """`"cache"` where the model's cache gives what computing all tokens anew gives, tried on a few tokens behind a gap.

    Raises:
        ArgumentError: the model has no logits, or later tokens change the outputs of earlier ones.
    """
    ids, positions = probe_tokens(model, LENGTH), torch.arange(1, LENGTH + 1)
    if getattr(model(**inputs_of(model, ids, positions)), "logits", None) is None:
        raise ArgumentError(f"model: {type(model).__name__} gives no logits, needs a causal language model")
    whole = Run(model, "recompute").call(ids, positions)
    fewer = Run(model, "recompute").call(ids[:, :-1], positions[:-1])
    if not _close(fewer, whole[:-1], model.dtype):
        raise ArgumentError(
            f"model: later tokens change what {type(model).__name__} puts out at earlier ones, needs a causal language model"
        )
    return "cache" if _cache_serves(model, ids, positions, whole) else "recompute"


def _cache_serves(model: Any, ids: Tensor, positions: Tensor, whole: Tensor) -> bool:
    """Whether tokens one at a time give what all at once give, with a cache that the model returns."""
    run = Run(model, "cache")
    if not run.name or "use_cache" not in accepted(model):
        return False
    try:
        parts = [run.call(ids[:, :2], positions[:2])]
        for i in range(2, LENGTH):
            if run.cache is None:
                return False
            parts.append(run.call(ids[:, i : i + 1], positions[i : i + 1]))
    except Exception:  # whatever it is that the model's cache does not take, the other route needs none
        return False
    return _close(torch.cat(parts), whole, model.dtype)


def _close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    if found.shape != wanted.shape:
        return False
    gap = (found.double() - wanted.double()).abs().max()
    return bool(gap <= round_off(dtype) * wanted.double().abs().max())
