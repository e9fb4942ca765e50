"""Configurations of a reproduction: all settings that its numbers depend on, and the presets."""

from collections.abc import Sequence
from typing import Literal

import attrs
import torch
from attrs.validators import and_

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.messages import closest, listed
from ctxblocks.registration.requests import device_of
from ctxblocks.validators import at_least, integer_at_least, plain_integer, seed_of

FIGURES = (2, 3, 4, 5, 6)
DTYPES = {"float32": torch.float32, "float64": torch.float64}
STEPS = {
    "quick": {"block": 1000, "rnn": 300, "post-norm-stack": 60, "pre-norm-stack": 15},
    "default": {"block": 5000, "rnn": 3000, "post-norm-stack": 600, "pre-norm-stack": 150},
    "paper": {"block": 5000, "rnn": 5000, "post-norm-stack": 5000, "pre-norm-stack": 5000},
}
"""Training steps of each model, by preset."""
EVALUATE_EVERY = 250
LEAST_EVALUATIONS = 5
"""A training that is too short for this many evaluations at that interval is evaluated more often."""


_COUNT = and_(at_least(1, advice="raise it"), integer_at_least(1))


@attrs.frozen(kw_only=True)
class ModelConfig:
    """One model and its training.

    Attributes:
        name: in tables, files and figures.
        layer: name of a registered contextual layer.
        options: of that layer, except its width.
        network_width: hidden units of the MLP, `m`.
        norm: position of the norm in residual blocks; None for one plain block.
        width: of the blocks of a stack with linear read-in and read-out; None for a plain block, as wide as its tokens.
        blocks: number of blocks in the stack.
        steps: of training.
        evaluate_every: steps between evaluations, each with a checkpoint.
    """

    name: str
    layer: str
    options: dict[str, int]
    network_width: int = attrs.field(default=128, converter=plain_integer, validator=_COUNT)
    norm: Literal["post", "pre"] | None = None
    width: int | None = None
    blocks: int = attrs.field(default=1, converter=plain_integer, validator=_COUNT)
    steps: int = attrs.field(converter=plain_integer, validator=_COUNT)
    evaluate_every: int = attrs.field(converter=plain_integer, validator=_COUNT)


@attrs.frozen(kw_only=True)
class Configuration:
    """All settings that the numbers of a run depend on.

    Attributes:
        preset: name of the preset that this is derived from.
        figures: numbers of the figures to draw, in order.
        seed: of everything drawn at random.
        device: `"cpu"` or `"cuda"`.
        dtype: a key of `DTYPES`.
        models: that the figures need.
        inputs: `d`, of the regression tasks.
        examples: `n`, columns in a prompt.
        batch: prompts in a training step.
        learning_rate: of Adam.
        validation_tasks: prompts of the validation losses, the same at every evaluation.
        tasks: new tasks for all other measurements.
        finetuning_rates: learning rates of SGD in Figure 4.
    """

    preset: str
    figures: tuple[int, ...]
    seed: int = attrs.field(default=0, converter=seed_of)
    device: str = "cpu"
    dtype: str = "float32"
    models: tuple[ModelConfig, ...]
    inputs: int = attrs.field(default=2, converter=plain_integer, validator=_COUNT)
    examples: int = attrs.field(default=100, converter=plain_integer, validator=_COUNT)
    batch: int = attrs.field(default=128, converter=plain_integer, validator=_COUNT)
    learning_rate: float = 1e-3
    validation_tasks: int = attrs.field(default=128, converter=plain_integer, validator=_COUNT)
    tasks: int = attrs.field(default=100, converter=plain_integer, validator=_COUNT)
    finetuning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)

    @property
    def name(self) -> str:
        """A name for the run: the preset, and what differs from its defaults."""
        chosen = "" if self.figures == FIGURES else f"-figure-{'-'.join(map(str, self.figures))}"
        special = [value for value, usual in ((self.dtype, "float32"), (self.device, "cpu")) if value != usual]
        return "-".join([f"reproduce-{self.preset}{chosen}", *special, f"seed-{self.seed}"])

    @property
    def width(self) -> int:
        """`d + 1`, of a token."""
        return self.inputs + 1

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of models and data."""
        return DTYPES[self.dtype]

    def figures_of(self, model: str) -> tuple[int, ...]:
        """The figures that need a model."""
        return tuple(figure for figure in self.figures if model in MODELS_OF[figure])


MODELS_OF = {
    2: ("block",),
    3: ("block",),
    4: ("block",),
    5: ("post-norm-stack", "pre-norm-stack"),
    6: ("rnn",),
}
"""The models that each figure needs."""


def preset(
    name: str = "default",
    figures: Sequence[int] | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
) -> Configuration:
    """The configuration of a preset: `quick`, `default` or `paper`.

    Args:
        name: of the preset.
        figures: numbers of figures, some of 2 … 6; all by default.
        seed: of everything drawn at random.
        device: `"cpu"`, `"cuda"`, or `"auto"` for CUDA where there is a GPU and else the CPU.
        dtype: `"float32"` or `"float64"`.

    Raises:
        ArgumentError: an unknown preset, figure or dtype.
        DeviceError: CUDA was requested and is not available.
    """
    if name not in STEPS:
        raise ArgumentError(f"preset: got {name!r}, needs one of {listed(STEPS)}{closest(name, STEPS)}")
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype: got {dtype!r}, needs one of {listed(DTYPES)}{closest(dtype, DTYPES)}")
    figures = FIGURES if figures is None else figures
    unknown = [figure for figure in figures if figure not in FIGURES]
    if unknown or not figures:
        got = ", ".join(map(str, unknown)) or "none"
        raise ArgumentError(f"figures: got {got}, needs some of {listed([str(figure) for figure in FIGURES])}")
    chosen = tuple(sorted(set(figures)))
    needed = {model for figure in chosen for model in MODELS_OF[figure]}
    models = tuple(_model(model, steps) for model, steps in STEPS[name].items() if model in needed)
    return Configuration(
        preset=name, figures=chosen, seed=seed, device=device_of(device).type, dtype=dtype, models=models
    )


def _model(name: str, steps: int) -> ModelConfig:
    """A model of the paper's experiments, trained for the given number of steps."""
    longest = max(1, min(EVALUATE_EVERY, steps // LEAST_EVALUATIONS))
    every = next(every for every in range(longest, 0, -1) if steps % every == 0)
    if name == "block":
        options = {"heads": 8, "head_width": 32}
        return ModelConfig(name=name, layer="self-attention", options=options, steps=steps, evaluate_every=every)
    if name == "rnn":
        return ModelConfig(name=name, layer="rnn", options={"hidden": 64}, steps=steps, evaluate_every=every)
    post = name == "post-norm-stack"
    return ModelConfig(
        name=name,
        layer="self-attention",
        options={"heads": 8},
        norm="post" if post else "pre",
        width=32,
        blocks=4 if post else 10,
        steps=steps,
        evaluate_every=every,
    )
