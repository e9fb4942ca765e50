"""Captions: the content of a figure, its settings and seed, and the verdicts on its claims."""

from collections.abc import Sequence

from ctxblocks.experiments.claims import Claim, final_losses
from ctxblocks.experiments.metrics import Metrics
from ctxblocks.experiments.presets import MODELS_OF, Configuration, ModelConfig

BARELY = 0.5
"""A model whose loss is more than this share of the zero predictor's has barely learned."""


def caption(number: int, shown: str, config: Configuration, metrics: Metrics, claims: Sequence[Claim]) -> str:
    """The caption of a figure: its content, the settings, and the verdicts."""
    models = [model for model in config.models if model.name in MODELS_OF[number]]
    parts = [f"Figure {number}. {shown}", *(describe_model(config, model) for model in models), describe_run(config)]
    parts += [_barely(model, metrics) for model in models]
    parts += [
        f"Claim: {claim.statement} ({claim.criterion}): {claim.verdict}, measured {claim.measured}."
        for claim in claims
        if claim.figure == number
    ]
    return " ".join(part for part in parts if part)


def describe_model(config: Configuration, model: ModelConfig) -> str:
    """The settings of a model and its training."""
    options = ", ".join(f"{name} {value}" for name, value in model.options.items())
    kind = "one block without skip or norm" if model.norm is None else f"{model.blocks} {model.norm}-norm blocks"
    width = f"width {model.width} with linear read-in and read-out" if model.width else f"width {config.width}"
    return (
        f"Model {model.name}: {kind}, {model.layer} ({options}), {width}, ReLU MLP of {model.network_width}; "
        f"{model.steps} steps, evaluated every {model.evaluate_every}."
    )


def describe_run(config: Configuration) -> str:
    """The settings that all models share."""
    return (
        f"Tasks: linear functions, d = {config.inputs}, n = {config.examples} examples, x and w from N(0, I). "
        f"Training: Adam {config.learning_rate:g}, batch {config.batch}; {config.validation_tasks} validation tasks, "
        f"{config.tasks} new tasks. Preset {config.preset}, seed {config.seed}, {config.dtype} on {config.device}."
    )


def _barely(model: ModelConfig, metrics: Metrics) -> str:
    loss, zero = final_losses(metrics, model.name)
    if loss <= BARELY * zero:
        return ""
    return f"{model.name} has barely learned: validation loss {loss:.3g}, against {zero:.3g} of the zero predictor."
