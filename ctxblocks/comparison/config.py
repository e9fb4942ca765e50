"""The configuration of a comparison: layers, task classes and seeds, and how models are built, trained and measured."""

from typing import Any, Literal

import attrs
import torch
from attrs.validators import and_

from ctxblocks.base.errors import ArgumentError
from ctxblocks.registration.registry import registry
from ctxblocks.validators import at_least, each_once, integer_at_least, more_than, plain_integer, seed_of, share

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"examples": 8, "blocks": 2, "width": 16, "steps": 1500, "batch": 64, "trials": 64},
    "default": {"examples": 32, "blocks": 4, "width": 32, "steps": 3000, "batch": 64, "trials": 256},
}
"""`quick` takes a minute or two with all bundled layers and one seed; `default` trains long enough to learn linear functions."""
_COUNT = and_(more_than(0), integer_at_least(1))
ERROR = "in-context-error"
"""Name of the error in context, which every comparison measures itself."""
STANDARD = (
    "alignment",
    "commutator",
    "determinant",
    "distance-to-full",
    "effective-rank",
    "gradient-alignment",
    "leading-share",
    "marginal-change",
    "norm",
    "shift-norm",
    "spectrum",
    "state-size",
)
"""Probes that a comparison is expected to hold; it names those that no plugin provides."""


@attrs.frozen(kw_only=True)
class CompareConfig:
    """All settings of a comparison.

    Attributes:
        preset: name of the preset that it is derived from.
        layers: names of registered layers.
        tasks: names of registered task classes.
        probes: names of registered probes; the error in context is always measured.
        seeds: models trained for each layer and task.
        inputs: `d`, components of `x`.
        examples: `n`, examples in a prompt, in training and measurement.
        blocks: pre-norm blocks in the stack, each with the layer and an MLP.
        width: of the blocks.
        steps: training steps.
        batch: tasks in a step.
        learning_rate: peak learning rate of Adam; it rises over the first steps and falls to 0 by a cosine.
        trials: new tasks on which a model is measured.
        noise: standard deviation of the noise in the condition `noise`, relative to that of the labels.
        corruption: share of wrong labels in the condition `corruption`.
        seed: from which all other seeds are derived.
        device: `"cpu"` or `"cuda"`.
    """

    preset: Literal["quick", "default"] = "quick"
    layers: tuple[str, ...] = attrs.field(validator=each_once())
    tasks: tuple[str, ...] = attrs.field(validator=each_once())
    probes: tuple[str, ...] = attrs.field(validator=each_once(empty=True))
    seeds: int = attrs.field(default=1, converter=plain_integer, validator=_COUNT)
    inputs: int = attrs.field(default=5, converter=plain_integer, validator=_COUNT)
    examples: int = attrs.field(converter=plain_integer, validator=_COUNT)
    blocks: int = attrs.field(converter=plain_integer, validator=_COUNT)
    width: int = attrs.field(converter=plain_integer, validator=_COUNT)
    steps: int = attrs.field(converter=plain_integer, validator=_COUNT)
    batch: int = attrs.field(converter=plain_integer, validator=_COUNT)
    learning_rate: float = attrs.field(default=3e-3, validator=more_than(0))
    trials: int = attrs.field(
        converter=plain_integer, validator=and_(at_least(2, advice="a standard error needs two"), integer_at_least(2))
    )
    noise: float = attrs.field(default=0.5, validator=at_least(0))
    corruption: float = attrs.field(default=0.2, validator=share())
    seed: int = attrs.field(default=0, converter=seed_of)
    device: str = "cpu"

    @property
    def torch_device(self) -> torch.device:
        """The device on which models are trained."""
        return torch.device(self.device)

    def cells(self) -> "list[Cell]":
        """Every model that is trained, and the baselines for every task and seed."""
        return [
            Cell(layer, task, seed)
            for task in self.tasks
            for seed in range(self.seeds)
            for layer in (BASELINES, *self.layers)
        ]


BASELINES = ""
"""In place of a layer, for baselines."""


@attrs.frozen
class Cell:
    """One model to be trained and measured, or with layer "" the baselines on the same prompts."""

    layer: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.layer or 'baselines'}--{self.task}--{self.seed}"


def compare_config(
    preset: str,
    layers: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    probes: tuple[str, ...] = (),
    **options: Any,
) -> CompareConfig:
    """The settings of a preset for some layers, tasks and probes, changed by the options given.

    Args:
        preset: a key of `PRESETS`.
        layers: names; by default all registered ones.
        tasks: names; by default `linear`.
        probes: names; by default all registered ones.
        options: other attributes of `CompareConfig`; None keeps the value of the preset.

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
