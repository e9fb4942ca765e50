"""Mistakes: wirings that are not the model's, and updates with a part missing."""

import dataclasses
from collections.abc import Callable
from typing import Any

import attrs
from ctxblocks_transformers import transfer_model
from lm.tiny import prompt, tiny

from ctxblocks import ContextOperator, ImplicitUpdate, registry


def _no_shift(update: ImplicitUpdate) -> ImplicitUpdate:
    return dataclasses.replace(update, shift=None)


def _no_readers(update: ImplicitUpdate) -> ImplicitUpdate:
    return dataclasses.replace(update, operator=ContextOperator.identity(update.operator.direction))


Wrong = dict[str, Any] | Callable[[ImplicitUpdate], ImplicitUpdate]
WRONG: dict[str, tuple[str, Wrong]] = {
    "gate only": ("llama", {"network": "mlp.gate_proj"}),
    "up only": ("llama", {"network": "mlp.up_proj"}),
    "both, no shift": ("llama", _no_shift),
    "shift, no readers": ("llama", _no_readers),
    "shift of `z` instead of `r`": ("llama", {"bypass": "mlp"}),
    "`r` read before the mixer": ("gemma2", {"bypass": "input_layernorm"}),
    "shift before the network's norm (sandwich)": ("gemma2", {"inner": "mlp"}),
    "shift before the network's norm (branch-norm)": ("olmo2", {"inner": "mlp"}),
    "the mixer's output as bypass": ("olmo2", {"bypass": "post_attention_layernorm"}),
    "residual multiplier not divided out": ("granite", {"inner": "mlp"}),
    "router not updated": ("mixtral", {"network": "mlp.experts"}),
    "shared expert and its gate not updated": ("qwen2_moe", {"network": "mlp.experts"}),
    "parallel as sequential": ("gptj", {"wiring": "pre-norm", "bypass": "ln_1"}),
}
"""The mistakes: the model type, and the changes to its specification or to every block's update."""


def error_of(name: str) -> float:
    """The error that a mistake causes in float64, relative to the largest logit."""
    model_type, wrong = WRONG[name]
    model = tiny(model_type)
    if not callable(wrong):
        known = registry().family(model_type)
        assert known is not None
        family = attrs.evolve(known, blocks=(attrs.evolve(known.blocks[0], **wrong), *known.blocks[1:]))
        return transfer_model(model, prompt(), family=family).report.relative
    update = transfer_model(model, prompt())
    without = dataclasses.replace(update, updates=tuple(u if u is None else wrong(u) for u in update.updates))
    with without.applied(model) as calls:
        model(**without.inputs(model))
    return calls.differences[0].relative
