"""One cell of a comparison: train a model, and measure it and its untrained twin on new tasks."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import torch

from ctxblocks.base.threads import one_thread
from ctxblocks.blocks.stack import Stack
from ctxblocks.comparison.conditions import CONDITIONS, prompts_under
from ctxblocks.comparison.config import ERROR, Cell, CompareConfig
from ctxblocks.comparison.measuring import Row, means, measured, seconds_of
from ctxblocks.comparison.models import build, count, predictions
from ctxblocks.registration.observers import Evaluation, Step
from ctxblocks.registration.registry import registry
from ctxblocks.registration.tasks import Prompts
from ctxblocks.runs.divergence import check_losses, check_trained
from ctxblocks.runs.jobs import Report
from ctxblocks.runs.seeds import derive_seed

SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("layer", pa.string()),
        ("task", pa.string()),
        ("seed", pa.int32()),
        ("control", pa.string()),
        ("condition", pa.string()),
        ("block", pa.int32()),
        ("n", pa.int32()),
        ("probe", pa.string()),
        ("value", pa.float64()),
        ("error", pa.float64()),
    ]
)
"""One row for each measurement: `value` is the mean over new tasks, `error` its standard error, null for a single number.

`control` is `trained`, `untrained`, or a baseline's name with an empty layer; `condition` a key of `CONDITIONS`; `block` and
`n` are null where they do not apply.
"""

LONGEST_STEP = 1.0
"""Norm to which gradients are clipped."""
CHECKED = 50
"""Steps after which their losses are checked to be finite."""
WARM_UP = 0.05
"""Share of the steps over which the learning rate rises."""


def run_cell(config: CompareConfig, cell: Cell, report: Report = lambda event: None) -> tuple[pa.Table, pa.Table]:
    """Two tables: measurements and wall-clock times. Only the measurements are determined by configuration and cell.

    Args:
        config: of the comparison.
        cell: to be computed.
        report: called with a `Step` after every training step, and with an `Evaluation` before and after training.
    """
    with one_thread():
        new = _conditions(config, cell)
        if not cell.layer:
            return _table(config, cell, _baseline_rows(config, cell, new)), _table(config, cell, [])
        model = build(config, cell.layer, cell.seed)
        rows = list(_measured(config, model, new, "untrained"))
        report(_evaluation(config, cell, rows, "untrained"))
        seconds = {"seconds-per-step": _train(config, cell, model, report) / config.steps}
        seconds |= seconds_of(config, model, new["clean"])
        start = time.perf_counter()
        rows += _measured(config, model, new, "trained")
        seconds["seconds-of-measuring"] = time.perf_counter() - start
        report(_evaluation(config, cell, rows, "trained"))
        rows.append(_of_model("parameters", float(count(model))))
        return _table(config, cell, rows), _table(config, cell, (_of_model(*each) for each in seconds.items()))


def _evaluation(config: CompareConfig, cell: Cell, rows: Iterable[Row], control: str) -> Evaluation:
    """The error with all examples, on clean prompts."""
    wanted = {"control": control, "condition": "clean", "probe": ERROR, "n": config.examples}
    (error,) = (row["value"] for row in rows if all(row.get(name) == value for name, value in wanted.items()))
    return Evaluation(cell.name, config.steps if control == "trained" else 0, {ERROR: float(str(error))})


def _of_model(probe: str, value: float) -> Row:
    return {"control": "trained", "condition": "clean", "probe": probe, "value": value}


def _prompts(config: CompareConfig, cell: Cell, tasks: int, *purpose: str | int) -> Prompts:
    """The same prompts for every layer."""
    spec = registry().task(cell.task)
    made = spec.config(inputs=config.inputs, examples=config.examples)
    return spec.sample(made, tasks, derive_seed(config.seed, cell.task, cell.seed, *purpose))


def _conditions(config: CompareConfig, cell: Cell) -> Mapping[str, Prompts]:
    """The prompts of the new tasks under every condition."""
    clean = _prompts(config, cell, config.trials, "new tasks")
    seed = derive_seed(config.seed, cell.task, cell.seed, "conditions")
    return {name: prompts_under(name, clean, config.noise, config.corruption, seed) for name in CONDITIONS}


def _train(config: CompareConfig, cell: Cell, model: Stack, report: Report) -> float:
    """Adam on `½ (ŷ − f(x_q))²`, the mean over all prefixes of one token and more; returns the seconds.

    Raises:
        NonFiniteError: the training diverged.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rise_and_fall(step, config.steps))
    start, losses = time.perf_counter(), []
    for step in range(config.steps):
        prompts = _prompts(config, cell, config.batch, "training", step).to(config.device, torch.float32)
        optimizer.zero_grad()
        errors = predictions(model, prompts)[:, 1:] - prompts.target.unsqueeze(-1)
        loss = 0.5 * errors.square().mean()
        losses.append(loss.detach())
        if len(losses) == CHECKED or step + 1 == config.steps:
            check_losses(losses, step + 2 - len(losses), config.steps)
            losses.clear()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LONGEST_STEP)
        optimizer.step()
        schedule.step()
        report(Step(cell.name, step + 1, config.steps))
    check_trained(model, config.steps)
    return time.perf_counter() - start


def _rise_and_fall(step: int, steps: int) -> float:
    """The share of the peak learning rate at a step: a linear warm-up times half a cosine."""
    rising = min(1.0, (step + 1) / (WARM_UP * steps))
    return rising * 0.5 * (1 + math.cos(math.pi * step / steps))


def _measured(config: CompareConfig, model: Stack, new: Mapping[str, Prompts], control: str) -> Iterator[Row]:
    for condition, prompts in new.items():
        yield from measured(config, model, prompts, {"control": control, "condition": condition})


def _baseline_rows(config: CompareConfig, cell: Cell, new: Mapping[str, Prompts]) -> Iterator[Row]:
    spec = registry().task(cell.task)
    made = spec.config(inputs=config.inputs, examples=config.examples)
    for condition, prompts in new.items():
        target = prompts.target.numpy()[:, None]
        for name, baseline in spec.baselines(made).items():
            errors = torch.as_tensor((baseline(prompts) - target) ** 2)
            yield from means(errors, {"control": name, "condition": condition, "probe": ERROR})


def _table(config: CompareConfig, cell: Cell, rows: Iterable[Row]) -> pa.Table:
    fixed = {"run": config.preset, "layer": cell.layer, "task": cell.task, "seed": cell.seed}
    return pa.Table.from_pylist([{**fixed, **row} for row in rows], schema=SCHEMA)
