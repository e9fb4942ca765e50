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
from ctxblocks.experiments.tasks import derive_seed
from ctxblocks.registration.registry import registry
from ctxblocks.registration.tasks import Prompts

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
"""One row a measurement: `value` is the mean over new tasks, `error` its standard error, null where there is one number.

`control` is `trained`, `untrained`, or a baseline's name with an empty layer; `condition` a key of `CONDITIONS`; `block` and
`n` are null where they have no say.
"""

LONGEST_STEP = 1.0
"""Length at which gradients are cut off."""
WARM_UP = 0.05
"""Share of the steps over which the learning rate rises."""


def run_cell(config: CompareConfig, cell: Cell) -> tuple[pa.Table, pa.Table]:
    """The cell's rows, and alike how long its parts took. The first hang on the configuration and the cell alone."""
    with one_thread():
        new = _conditions(config, cell)
        if not cell.layer:
            return _table(config, cell, _baseline_rows(config, cell, new)), _table(config, cell, [])
        model = build(config, cell.layer, cell.seed)
        rows = list(_measured(config, model, new, "untrained"))
        seconds = {"seconds-per-step": _train(config, cell, model) / config.steps}
        seconds |= seconds_of(config, model, new["clean"])
        start = time.perf_counter()
        rows += _measured(config, model, new, "trained")
        seconds["seconds-of-measuring"] = time.perf_counter() - start
        rows.append(_of_model("parameters", float(count(model))))
        return _table(config, cell, rows), _table(config, cell, (_of_model(*each) for each in seconds.items()))


def _of_model(probe: str, value: float) -> Row:
    return {"control": "trained", "condition": "clean", "probe": probe, "value": value}


def _prompts(config: CompareConfig, cell: Cell, tasks: int, *purpose: str | int) -> Prompts:
    """The same prompts for every layer."""
    spec = registry().task(cell.task)
    made = spec.config(inputs=config.inputs, examples=config.examples)
    return spec.sample(made, tasks, derive_seed(config.seed, cell.task, cell.seed, *purpose))


def _conditions(config: CompareConfig, cell: Cell) -> Mapping[str, Prompts]:
    """The new tasks' prompts under every condition."""
    clean = _prompts(config, cell, config.trials, "new tasks")
    seed = derive_seed(config.seed, cell.task, cell.seed, "conditions")
    return {name: prompts_under(name, clean, config.noise, config.corruption, seed) for name in CONDITIONS}


def _train(config: CompareConfig, cell: Cell, model: Stack) -> float:
    """Adam on `½ (ŷ − f(x_q))²`, the mean over all prefixes of one token and more; returns the seconds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rise_and_fall(step, config.steps))
    start = time.perf_counter()
    for step in range(config.steps):
        prompts = _prompts(config, cell, config.batch, "training", step).to(config.device, torch.float32)
        optimizer.zero_grad()
        found = predictions(model, prompts)[:, 1:]
        loss = 0.5 * (found - prompts.target.unsqueeze(-1)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LONGEST_STEP)
        optimizer.step()
        schedule.step()
    return time.perf_counter() - start


def _rise_and_fall(step: int, steps: int) -> float:
    """The share of the learning rate at a step: up in a line over the first, then down by half a cosine."""
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
