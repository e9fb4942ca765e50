"""The measurements of a model: its errors in context, and every probe of every block, under every condition."""

import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from ctxblocks.algebra.solvers import Augmented
from ctxblocks.blocks.stack import Stack
from ctxblocks.comparison.config import ERROR, CompareConfig
from ctxblocks.comparison.decay import exponents
from ctxblocks.comparison.models import predictions
from ctxblocks.registration.probes import TOKENS, Probe, Trial
from ctxblocks.registration.registry import registry
from ctxblocks.registration.tasks import Prompts
from ctxblocks.runs.statistics import Means, means_of
from ctxblocks.theorems.dynamics import Dynamics, dynamics

Row = dict[str, object]
Tags = Mapping[str, object]


@torch.no_grad()
def measured(config: CompareConfig, model: Stack, prompts: Prompts, tags: Tags) -> Iterator[Row]:
    """Errors of the model's predictions, and the configuration's probes on every block.

    Args:
        config: with the probes.
        model: on the device of the configuration.
        prompts: in float64 on the CPU.
        tags: columns of the rows: the control and the condition.
    """
    prompts = prompts.to(config.device, torch.float32)
    errors = (predictions(model, prompts) - prompts.target.unsqueeze(-1)).square()
    yield from means(errors, {**tags, "probe": ERROR})
    blocks: list[Dynamics] = dynamics(model, prompts.query, prompts.context, solver=Augmented())
    probes = [registry().probe(name) for name in config.probes if name != ERROR]
    for block, (each, inputs) in enumerate(zip(blocks, _inputs(model, prompts), strict=True)):
        for probe in probes:
            if probe.stack is None:
                values = _per_task(probe.measure(Trial(each, prompts, inputs)), prompts)
                yield from _rows(config, probe, values, {**tags, "block": block})
    for probe in probes:
        if probe.stack is not None:
            for block, tensor in enumerate(probe.stack(model, prompts, blocks)):
                yield from _rows(config, probe, _per_task(tensor, prompts), {**tags, "block": block})


@torch.no_grad()
def seconds_of(config: CompareConfig, model: Stack, prompts: Prompts) -> dict[str, float]:
    """Seconds of one forward pass over the prompts, and of the dynamics of all their prefixes."""
    query, context, _ = prompts.to(config.device, torch.float32)
    calls: dict[str, Callable[[], object]] = {
        "seconds-of-forward": lambda: model(query, context),
        "seconds-of-dynamics": lambda: dynamics(model, query, context, solver=Augmented()),
    }
    return {name: _seconds(config, call) for name, call in calls.items()}


def _seconds(config: CompareConfig, call: Callable[[], object]) -> float:
    call()  # warm-up
    start = time.perf_counter()
    call()
    if config.torch_device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _inputs(model: Stack, prompts: Prompts) -> Iterator[tuple[Tensor, Tensor]]:
    """Query and context as they enter each block."""
    query, tokens = model.read_in(prompts.query), model.read_in(prompts.context)
    for block in model:
        yield query, tokens
        query, tokens = block(query, tokens), block.sequence(tokens)


def _per_task(measurement: Tensor | float, prompts: Prompts) -> Tensor:  # (tasks, n + 1), (tasks, n) or (tasks,)
    values = torch.as_tensor(measurement)
    return values.expand(prompts.target.shape[0]) if values.dim() == 0 else values


def _rows(config: CompareConfig, probe: Probe, values: Tensor, tags: Tags) -> Iterator[Row]:
    """The means of a probe, and its exponent if it has one; `n` values of `n` tokens belong to tokens `1 … n`."""
    start = 1 if probe.places == TOKENS and values.dim() > 1 and values.shape[-1] == config.examples else 0
    yield from means(values, {**tags, "probe": probe.name}, start)
    if probe.exponent:
        changes = values[:, max(0, probe.first - start) :].detach().double().cpu().numpy()
        for name, value in exponents(probe.exponent, changes).items():
            yield {**tags, "probe": name, "value": value}


def means(values: Tensor, tags: Tags, start: int = 0) -> list[Row]:
    """Mean over tasks and its standard error: one row for each position from `start` on, or one for all."""
    mean: Means = means_of(values.detach().double().cpu().numpy())
    if values.dim() == 1:
        return [{**tags, "value": float(mean.value), "error": float(mean.error)}]
    pairs = zip(mean.value.tolist(), mean.error.tolist(), strict=True)
    return [{**tags, "n": n, "value": value, "error": error} for n, (value, error) in enumerate(pairs, start)]
