"""What a comparison is: layers, task classes and seeds, and how each model is built, trained and measured."""

from typing import Any, Literal

import attrs
import torch

from ctxblocks.base.errors import ArgumentError
from ctxblocks.registration.registry import registry

FORMAT = 2
"""Of the folder that a comparison is written to."""
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"examples": 8, "blocks": 2, "width": 16, "steps": 1500, "batch": 64, "trials": 64},
    "default": {"examples": 32, "blocks": 4, "width": 32, "steps": 3000, "batch": 64, "trials": 256},
}
"""`quick` takes a minute or two with all bundled layers and one seed; `default` trains long enough to learn linear functions."""


ERROR = "in-context-error"
"""The probe that every comparison has."""


def _positive(instance: Any, attribute: Any, value: Any) -> None:
    if not value > 0:
        raise ArgumentError(f"{attribute.name}: got {value!r}, needs more than 0")


def _several(instance: Any, attribute: Any, value: Any) -> None:
    if not value > 1:
        raise ArgumentError(f"{attribute.name}: got {value!r}, needs at least 2, for a standard error")


def _at_least_zero(instance: Any, attribute: Any, value: Any) -> None:
    if not value >= 0:
        raise ArgumentError(f"{attribute.name}: got {value!r}, needs at least 0")


def _share(instance: Any, attribute: Any, value: Any) -> None:
    if not 0 <= value <= 1:
        raise ArgumentError(f"{attribute.name}: got {value!r}, needs a share from 0 to 1")


def _some(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    if not value or len(set(value)) < len(value):
        raise ArgumentError(f"{attribute.name}: got {list(value)!r}, needs at least one, and each once")


@attrs.frozen(kw_only=True)
class CompareConfig:
    """All settings of a comparison.

    Attributes:
        preset: that it began as.
        layers: names of registered layers.
        tasks: names of registered task classes.
        probes: names of registered probes; the error in context is measured whether named or not.
        seeds: models of each layer and task.
        inputs: `d` of the tasks.
        examples: `n` of the prompts, in training and measurement.
        blocks: of the stack, pre-norm, each the layer and an MLP.
        width: of the blocks.
        steps: of Adam.
        batch: tasks in a step.
        learning_rate: of Adam, the highest: it rises over the first steps and falls to 0 by a cosine.
        trials: new tasks on which a model is measured.
        noise: of the condition of that name: standard deviation over that of the labels.
        corruption: of the condition of that name: share of false labels.
        seed: that all others come from.
        device: `"cpu"` or `"cuda"`.
    """

    preset: Literal["quick", "default"] = "quick"
    layers: tuple[str, ...] = attrs.field(validator=_some)
    tasks: tuple[str, ...] = attrs.field(validator=_some)
    probes: tuple[str, ...] = attrs.field(validator=_some)
    seeds: int = attrs.field(default=1, validator=_positive)
    inputs: int = attrs.field(default=5, validator=_positive)
    examples: int = attrs.field(validator=_positive)
    blocks: int = attrs.field(validator=_positive)
    width: int = attrs.field(validator=_positive)
    steps: int = attrs.field(validator=_positive)
    batch: int = attrs.field(validator=_positive)
    learning_rate: float = attrs.field(default=3e-3, validator=_positive)
    trials: int = attrs.field(validator=_several)
    noise: float = attrs.field(default=0.5, validator=_at_least_zero)
    corruption: float = attrs.field(default=0.2, validator=_share)
    seed: int = 0
    device: str = "cpu"

    @property
    def torch_device(self) -> torch.device:
        """Where models are trained."""
        return torch.device(self.device)

    def cells(self) -> "list[Cell]":
        """Every model that is trained, and for every task and seed what statistics makes of the same prompts."""
        return [
            Cell(layer, task, seed)
            for task in self.tasks
            for seed in range(self.seeds)
            for layer in (BASELINES, *self.layers)
        ]


BASELINES = ""
"""Stands for a layer where baselines are meant."""


@attrs.frozen
class Cell:
    """One model, or with layer "" the baselines of its prompts."""

    layer: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.layer or 'baselines'}--{self.task}--{self.seed}"


def compare_config(
    preset: str,
    layers: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    probes: tuple[str, ...] = (),
    **options: Any,
) -> CompareConfig:
    """A preset's settings for some layers, tasks and probes, changed by the options given.

    Args:
        preset: a key of `PRESETS`.
        layers: all registered ones where none is named.
        tasks: `linear` where none is named.
        probes: all registered ones where none is named.
        options: other attributes of `CompareConfig`; None leaves the preset's value.

    Raises:
        UnknownLayerError, ArgumentError: a name is not registered, the message lists what is; or an option is out of range.
    """
    if preset not in PRESETS:
        raise ArgumentError(f"preset: got {preset!r}, needs one of {', '.join(map(repr, PRESETS))}")
    known = registry()
    for names, find in ((layers, known.layer), (tasks, known.task), (probes, known.probe)):
        for name in names:
            find(name)
    given = {name: value for name, value in options.items() if value is not None}
    return CompareConfig(
        preset=preset,  # type: ignore[arg-type]
        layers=tuple(layers) or tuple(known.layers),
        tasks=tuple(tasks) or ("linear",),
        probes=tuple(probes) or tuple(known.probes),
        **{**PRESETS[preset], **given},
    )
