"""What is measured of a model: its errors in context, and every probe of every block, under every condition."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ctxblocks.algebra.solvers import Augmented
from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.stack import Stack
from ctxblocks.comparison.config import ERROR, CompareConfig
from ctxblocks.comparison.descent import gradient_alignment
from ctxblocks.comparison.models import predictions
from ctxblocks.registration.probes import Probe, Trial
from ctxblocks.registration.registry import registry
from ctxblocks.registration.tasks import Prompts
from ctxblocks.theorems.dynamics import Dynamics, dynamics

Row = dict[str, object]
Tags = Mapping[str, object]
CHANGE, DESCENT, STATE = "marginal-change", "gradient-alignment", "state-size"


@torch.no_grad()
def measured(config: CompareConfig, model: Stack, prompts: Prompts, tags: Tags) -> Iterator[Row]:
    """Errors of the model's predictions, and the configuration's probes on every block.

    Args:
        config: with the probes.
        model: on the configuration's device.
        prompts: in float64 on the CPU.
        tags: of the rows: the control and the condition.
    """
    prompts = prompts.to(config.device, torch.float32)
    yield from means(
        (predictions(model, prompts) - prompts.target.unsqueeze(-1)).square().double(), {**tags, "probe": ERROR}
    )
    found: list[Dynamics] = dynamics(model, prompts.query, prompts.context, solver=Augmented())
    for block, (each, inputs) in enumerate(zip(found, _inputs(model, prompts), strict=True)):
        of_block = {**tags, "block": block}
        for probe in (registry().probe(name) for name in config.probes if name not in (ERROR, DESCENT)):
            values = _values(probe, Trial(each, prompts, inputs))
            yield from means(values, {**of_block, "probe": probe.name})
            if probe.name == CHANGE:
                yield from _decay(values[:, 1:], of_block)
    if DESCENT in config.probes:
        yield from _descended(model, prompts, found, tags)


def _descended(model: Stack, prompts: Prompts, found: Sequence[Dynamics], tags: Tags) -> Iterator[Row]:
    for block, values in enumerate(gradient_alignment(model, prompts, found)):
        yield from means(values.double(), {**tags, "block": block, "probe": DESCENT})


@torch.no_grad()
def seconds_of(config: CompareConfig, model: Stack, prompts: Prompts) -> dict[str, float]:
    """How long one forward pass over the prompts takes, and the dynamics of all their prefixes."""
    query, context, _ = prompts.to(config.device, torch.float32)
    calls: dict[str, Callable[[], object]] = {
        "seconds-of-forward": lambda: model(query, context),
        "seconds-of-dynamics": lambda: dynamics(model, query, context, solver=Augmented()),
    }
    return {name: _seconds(config, call) for name, call in calls.items()}


def _seconds(config: CompareConfig, call: Callable[[], object]) -> float:
    call()  # the first call of a kind pays for what later ones find
    start = time.perf_counter()
    call()
    if config.torch_device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _decay(
    changes: Tensor,  # (tasks, n)
    tags: Tags,
) -> list[Row]:
    """The exponent of the marginal change's fall with its 95 % interval; NaN where weights do not move."""
    from ctxblocks_probes import decay_exponent

    try:
        found = decay_exponent(changes.numpy())
        ends = (found.exponent, found.low, found.high)
    except ArgumentError:
        ends = (float("nan"),) * 3
    names = ("decay-exponent", "decay-exponent-low", "decay-exponent-high")
    return [{**tags, "probe": name, "value": value} for name, value in zip(names, ends, strict=True)]


def _inputs(model: Stack, prompts: Prompts) -> Iterator[tuple[Tensor, Tensor]]:
    """What reaches each block of query and context."""
    query, tokens = model.read_in(prompts.query), model.read_in(prompts.context)
    for block in model:
        yield query, tokens
        query, tokens = block(query, tokens), block.sequence(tokens)


def _values(probe: Probe, trial: Trial) -> Tensor:  # (tasks, n + 1) or (tasks,)
    found = torch.as_tensor(probe.measure(trial)).detach().double().cpu()
    return found.expand(trial.prompts.target.shape[0]) if found.dim() == 0 else found


def means(values: Tensor, tags: Tags) -> list[Row]:
    """Mean over tasks and its standard error, one row for each prefix, or one."""
    values = values.cpu()
    spread = values.std(0) / np.sqrt(len(values)) if len(values) > 1 else torch.full_like(values[0], float("nan"))
    average = values.mean(0)
    if values.dim() == 1:
        return [{**tags, "value": float(average), "error": float(spread)}]
    pairs = zip(average.tolist(), spread.tolist(), strict=True)
    return [{**tags, "n": n, "value": mean, "error": error} for n, (mean, error) in enumerate(pairs)]
