"""Captions of the figures of a comparison."""

from ctxblocks.comparison.config import CompareConfig
from ctxblocks.comparison.folder import Words

LAYERS = (
    "Squared error of the prediction after n tokens, of the trained models and of their untrained twins, compared with every "
    "baseline on the same prompts. A baseline without error is drawn at a tenth of the smallest other value."
)
ERRORS = (
    "Squared error after n tokens, one panel for each layer: the trained model, its untrained twin, and the baseline that is "
    "best with all examples."
)


def of_probe(name: str, words: Words) -> str:
    """The caption of the figure of a probe."""
    if words.summed:
        return f"{name}: {words.summary}, summed over the blocks."
    return f"{name}: {words.summary}, of the query's update in every block; trained models and their untrained twins."


def settings(config: CompareConfig, task: str) -> str:
    """The settings that all models of a task share."""
    over = f"{config.seeds} seeds" if config.seeds > 1 else "one seed, standard errors over its new tasks"
    return (
        f"Task {task}, d = {config.inputs}, {config.examples} examples; {config.blocks} pre-norm blocks of width {config.width}, "
        f"{config.steps} steps of {config.batch} tasks, Adam {config.learning_rate:g}; mean over {over}, "
        f"{config.trials} new tasks each."
    )
