"""One cell of a comparison: train a model, and measure it and its untrained twin on new tasks."""

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ctxblocks._dynamics import Dynamics, dynamics
from ctxblocks._errors import ArgumentError
from ctxblocks._probes import Probe, Trial
from ctxblocks._registry import registry
from ctxblocks._solvers import Augmented
from ctxblocks._stack import Stack
from ctxblocks._tasks import Prompts
from ctxblocks._threads import one_thread
from ctxblocks.comparison._config import Cell, CompareConfig
from ctxblocks.comparison._models import build, count, predictions
from ctxblocks.experiments._tasks import derive_seed

SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("layer", pa.string()),
        ("task", pa.string()),
        ("seed", pa.int32()),
        ("control", pa.string()),
        ("block", pa.int32()),
        ("n", pa.int32()),
        ("probe", pa.string()),
        ("value", pa.float64()),
        ("error", pa.float64()),
    ]
)
"""One row a measurement: `value` is the mean over new tasks, `error` its standard error, null where there is one number.

`control` is `trained`, `untrained`, or a baseline's name with an empty layer; `block` and `n` are null where they have no say.
"""
ERROR = "in-context-error"
OF_OUTPUTS = (ERROR, "gradient-alignment")
"""Probes that read a target off a block's output, which a block of a stack does not have."""
Rows = list[dict[str, object]]


def run_cell(config: CompareConfig, cell: Cell) -> tuple[pa.Table, dict[str, float]]:
    """The cell's rows, and how long its parts took. The rows hang on the configuration and the cell alone."""
    with one_thread():
        new = _prompts(config, cell, config.trials, "new tasks")
        if not cell.layer:
            return _table(config, cell, _baseline_rows(config, cell, new)), {}
        model = build(config, cell.layer, cell.seed)
        rows = list(_measured(config, model, new, "untrained"))
        seconds = _train(config, cell, model)
        start = time.perf_counter()
        rows += _measured(config, model, new, "trained")
        rows.append({"control": "trained", "probe": "parameters", "value": float(count(model))})
        return _table(config, cell, rows), {
            "seconds-per-step": seconds / config.steps,
            "seconds-of-measuring": time.perf_counter() - start,
        }


def _prompts(config: CompareConfig, cell: Cell, tasks: int, *purpose: str | int) -> Prompts:
    """The same prompts for every layer."""
    spec = registry().task(cell.task)
    made = spec.config(inputs=config.inputs, examples=config.examples)
    return spec.sample(made, tasks, derive_seed(config.seed, cell.task, cell.seed, *purpose))


def _train(config: CompareConfig, cell: Cell, model: Stack) -> float:
    """Adam on `½ (ŷ − f(x_q))²`, the mean over all prefixes of one token and more; returns the seconds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    start = time.perf_counter()
    for step in range(config.steps):
        prompts = _prompts(config, cell, config.batch, "training", step).to(config.device, torch.float32)
        optimizer.zero_grad()
        found = predictions(model, prompts)[:, 1:]
        loss = 0.5 * (found - prompts.target.unsqueeze(-1)).square().mean()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


@torch.no_grad()
def _measured(config: CompareConfig, model: Stack, new: Prompts, control: str) -> Iterator[dict[str, object]]:
    """Errors of the model's predictions, and every probe on every block."""
    prompts = new.to(config.device, torch.float32)
    errors = (predictions(model, prompts) - prompts.target.unsqueeze(-1)).square()
    yield from _means(errors.cpu().double(), {"control": control, "probe": ERROR})
    found: list[Dynamics] = dynamics(model, prompts.query, prompts.context, solver=Augmented())
    for block, (each, inputs) in enumerate(zip(found, _inputs(model, prompts), strict=True)):
        trial = Trial(each, prompts, inputs)
        for probe in registry().probes.values():
            if probe.name not in OF_OUTPUTS:
                values, tags = _values(probe, trial), {"control": control, "block": block}
                yield from _means(values, {**tags, "probe": probe.name})
                if probe.name == "marginal-change":
                    yield from _decay(values[:, 1:], tags)


def _decay(
    changes: Tensor,  # (tasks, n)
    tags: dict[str, object],
) -> Rows:
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


def _baseline_rows(config: CompareConfig, cell: Cell, new: Prompts) -> Rows:
    spec = registry().task(cell.task)
    made = spec.config(inputs=config.inputs, examples=config.examples)
    target = new.target.numpy()[:, None]
    return [
        row
        for name, baseline in spec.baselines(made).items()
        for row in _means(torch.as_tensor((baseline(new) - target) ** 2), {"control": name, "probe": ERROR})
    ]


def _means(values: Tensor, tags: dict[str, object]) -> Rows:
    """Mean over tasks and its standard error, one row for each prefix, or one."""
    spread = values.std(0) / np.sqrt(len(values)) if len(values) > 1 else torch.full_like(values[0], float("nan"))
    means = values.mean(0)
    if values.dim() == 1:
        return [{**tags, "value": float(means), "error": float(spread)}]
    pairs = zip(means.tolist(), spread.tolist(), strict=True)
    return [{**tags, "n": n, "value": mean, "error": error} for n, (mean, error) in enumerate(pairs)]


def _table(config: CompareConfig, cell: Cell, rows: Rows) -> pa.Table:
    fixed = {"run": config.preset, "layer": cell.layer, "task": cell.task, "seed": cell.seed}
    return pa.Table.from_pylist([{**fixed, **row} for row in rows], schema=SCHEMA)
