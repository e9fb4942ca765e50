"""The leading tokens of a prompt that every query without context reads too."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ctxblocks import ArgumentError
from ctxblocks.numerics import widen
from ctxblocks_transformers.prefixes.base_pass import body
from ctxblocks_transformers.wiring.calling import inputs_of
from ctxblocks_transformers.wiring.difference import round_off
from ctxblocks_transformers.wiring.guess import probe_tokens
from ctxblocks_transformers.wiring.keep import Keep, Kept, kept_tokens
from ctxblocks_transformers.wiring.sites import Site

LOOK = 32
"""Number of tokens, after the first, with which the first is compared: it then costs a short pass, not one of the prompt."""
TRIED = 6
"""Number of tokens on which is tried whether a model is causal."""


def leading_tokens(
    model: Any,
    sites: Sequence[Site],
    input_ids: Tensor,  # (1, n + 1)
    keep: Keep,
    tokenizer: Any,
) -> Kept:
    """The kept tokens of a trace. In a model that is not causal `"auto"` keeps none.

    Raises:
        ArgumentError: other tokens than the first ones are to be kept, all tokens are, or the model is not causal.
    """
    automatic = isinstance(keep, str)
    kept = kept_tokens(model, sites, input_ids[:, : LOOK + 1] if automatic else input_ids, keep, tokenizer=tokenizer)
    count = len(kept.positions)
    if kept.positions != tuple(range(count)):
        raise ArgumentError(
            f"keep: got positions {list(kept.positions)}, needs the first ones of the prompt, such as [0], since prefixes of "
            f"all lengths have to hold them; transfer_model and replay keep any"
        )
    if count and not _causal(model):
        if automatic:
            return Kept((), "")
        raise ArgumentError(
            f"keep: {type(model).__name__} reads later tokens too, so that kept tokens change with every prefix, needs keep=(); "
            f"transfer_model keeps any for one prefix"
        )
    return kept


def _causal(model: Any) -> bool:
    """Whether the outputs at earlier tokens are the same without the last one."""
    ids = probe_tokens(model, TRIED)
    whole, fewer = (body(model)(**inputs_of(model, x, torch.arange(x.shape[1])))[0] for x in (ids, ids[:, :-1]))
    if whole.shape[1] != TRIED:
        return False
    gap = (widen(whole[:, :-1]) - widen(fewer)).abs().max()
    return bool(gap <= round_off(model.dtype) * widen(fewer).abs().max())
