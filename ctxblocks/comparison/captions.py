"""What the figures of a comparison say of themselves."""

from ctxblocks.comparison.config import CompareConfig
from ctxblocks.comparison.measuring import STATE

LAYERS = (
    "Squared error of the prediction behind n tokens, of the trained models and of their untrained twins, beside every baseline "
    "on the same prompts. A baseline without error is drawn at a tenth of the least other value."
)
ERRORS = (
    "Squared error behind n tokens, one panel for each layer: the trained model, its untrained twin, and the baseline that is "
    "best with all examples."
)


def of_probe(name: str, summary: str) -> str:
    """The caption of a probe's figure."""
    if name == STATE:
        return f"{name}: {summary}, summed over the blocks."
    return f"{name}: {summary}, of the query's update in every block; trained models beside their untrained twins."


def settings(config: CompareConfig, task: str) -> str:
    """What all models of a task share."""
    over = f"{config.seeds} seeds" if config.seeds > 1 else "one seed, errors over its new tasks"
    return (
        f"Task {task}, d = {config.inputs}, {config.examples} examples; {config.blocks} pre-norm blocks of width {config.width}, "
        f"{config.steps} steps of {config.batch} tasks, Adam {config.learning_rate:g}; mean over {over}, "
        f"{config.trials} new tasks each."
    )
