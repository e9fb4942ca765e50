"""A model called on one token after another, with its cache, or by computing earlier tokens again."""

from typing import Any, Literal

import torch
from torch import Tensor

from ctxblocks import ArgumentError
from ctxblocks_transformers.wiring.calling import accepted, input_device, inputs_of
from ctxblocks_transformers.wiring.difference import round_off
from ctxblocks_transformers.wiring.guess import probe_tokens
from ctxblocks_transformers.wiring.reads import outputs_of
from ctxblocks_transformers.wiring.sites import Hooks

Route = Literal["cache", "recompute"]
CACHES = ("past_key_values", "cache_params")
"""Names of the cache in the arguments and in the outputs of models."""
LENGTH = 6
"""Number of tokens on which a model's cache is tried."""


class Run:
    """One growing sequence.

    Attributes:
        model: the model.
        route: whether earlier tokens are kept in the model's cache or computed again.
        ids: `(1, tokens)`, the tokens so far.
        positions: `(tokens,)`, their positions.
    """

    def __init__(self, model: Any, route: Route) -> None:
        self.model, self.route = model, route
        self.name = next((name for name in CACHES if name in accepted(model)), "")
        self.cache: Any = None
        self.ids = torch.empty(1, 0, dtype=torch.int64, device=input_device(model))
        self.positions = torch.empty(0, dtype=torch.int64)

    def add(
        self,
        hooks: Hooks,
        ids: Tensor,  # (1, n)
        positions: Tensor,  # (n,)
    ) -> dict[str, Any]:
        """Append tokens; the arguments for one call of the model while the hooks are in place."""
        self.ids = torch.cat([self.ids, ids.to(self.ids)], dim=1)
        self.positions = torch.cat([self.positions, positions.to(self.positions)])
        if self.route == "recompute":
            return inputs_of(self.model, self.ids, self.positions)
        hooks.result(self.model, self._keep)
        inputs = inputs_of(self.model, ids.to(self.ids), positions)
        if "attention_mask" in inputs:
            inputs["attention_mask"] = torch.ones_like(self.ids)
        return {**inputs, "use_cache": True, self.name: self.cache}

    def call(self, ids: Tensor, positions: Tensor) -> Tensor:  # (n or tokens, vocabulary)
        """Append tokens and call the model: the outputs of the tokens that it is called on."""
        with Hooks() as hooks:
            return outputs_of(self.model(**self.add(hooks, ids, positions)))

    def _keep(self, result: Any) -> None:
        self.cache = getattr(result, self.name, None)


def route_of(model: Any) -> Route:
    """`"cache"` if the model's cache gives the same outputs as computing all tokens again, tried on a few tokens after a gap.

    Raises:
        ArgumentError: the model has no logits, or the outputs of earlier tokens depend on later ones.
    """
    ids, positions = probe_tokens(model, LENGTH), torch.arange(1, LENGTH + 1)
    if getattr(model(**inputs_of(model, ids, positions)), "logits", None) is None:
        raise ArgumentError(f"model: {type(model).__name__} gives no logits, needs a causal language model")
    whole = Run(model, "recompute").call(ids, positions)
    fewer = Run(model, "recompute").call(ids[:, :-1], positions[:-1])
    if not close(fewer, whole[:-1], model.dtype):
        raise ArgumentError(
            f"model: the outputs of {type(model).__name__} at earlier tokens depend on later ones, needs a causal language model"
        )
    return "cache" if _cache_serves(model, ids, positions, whole) else "recompute"


def _cache_serves(model: Any, ids: Tensor, positions: Tensor, whole: Tensor) -> bool:
    """Whether single tokens with the model's cache give the same outputs as all tokens at once."""
    run = Run(model, "cache")
    if not run.name or "use_cache" not in accepted(model):
        return False
    try:
        parts = [run.call(ids[:, :2], positions[:2])]
        for i in range(2, LENGTH):
            if run.cache is None:
                return False
            parts.append(run.call(ids[:, i : i + 1], positions[i : i + 1]))
    except Exception:  # whatever the cache does not support: the other route needs none
        return False
    return close(torch.cat(parts), whole, model.dtype)


def close(outputs: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether two tables of outputs agree up to round-off."""
    if outputs.shape != expected.shape:
        return False
    gap = (outputs.double() - expected.double()).abs().max()
    return bool(gap <= round_off(dtype) * expected.double().abs().max())
