"""The summary of a comparison: the error of each layer with that of its untrained twin and of the best baseline."""

from collections.abc import Iterable

import attrs
import pyarrow as pa

from ctxblocks.comparison.config import ERROR, CompareConfig
from ctxblocks.comparison.series import Key, Measurements

PUBLISHED = {
    (5, 8): {"ssm": 0.01, "gru": 0.04, "lstm": 0.07, "rnn": 0.26},
    (20, 32): {"self-attention": 0.01, "ssm": 0.03, "lstm": 4.39, "gru": 4.94, "rnn": 8.08},
}
"""Squared errors on linear functions by inputs and examples [Lee, Jiang, Berg-Kirkpatrick 2024], each the best of a sweep, with
Llama for attention and Mamba for the state space layer."""


@attrs.frozen
class Line:
    """One layer on one task after `n` examples.

    Attributes:
        layer: its name.
        task: the task class.
        n: context tokens.
        value: squared error, the mean over seeds.
        error: its standard error over seeds; for a single seed, over new tasks.
        untrained: squared error of the untrained twins.
        baseline: name of the best baseline.
        best: squared error of the best baseline.
        parameters: number of parameters of the model.
        published: published squared error for this setting; None where there is none.
    """

    layer: str
    task: str
    n: int
    value: float
    error: float
    untrained: float
    baseline: str
    best: float
    parameters: int
    published: float | None


def summarize(table: pa.Table, inputs: int, lengths: Iterable[int]) -> list[Line]:
    """The errors in a comparison's table after the given numbers of examples, task by task, the best layer first."""
    seen, lengths = Measurements(table), list(lengths)
    return [line for task in seen.tasks() for n in lengths for line in lines_of(seen, task, inputs, n)]


def lines_of(seen: Measurements, task: str, inputs: int, n: int) -> list[Line]:
    """The errors on one task after `n` tokens, the best layer first."""
    ends = {name: float(series.value[n]) for name, series in seen.baselines(task).items()}
    best = min(ends, key=lambda name: ends[name], default="")
    known = PUBLISHED.get((inputs, n), {}) if task == "linear" else {}
    lines = []
    for layer in seen.layers(task):
        trained, untrained = (seen.series(Key(task, layer, control, ERROR)) for control in ("trained", "untrained"))
        size = seen.number(Key(task, layer, "trained", "parameters"))
        if trained is None or untrained is None or size is None:
            continue
        line = Line(
            layer=layer,
            task=task,
            n=n,
            value=float(trained.value[n]),
            error=float(trained.error[n]),
            untrained=float(untrained.value[n]),
            baseline=best,
            best=ends.get(best, float("nan")),
            parameters=int(size.value),
            published=known.get(layer),
        )
        lines.append(line)
    return sorted(lines, key=lambda line: line.value)


def order_differs(lines: list[Line]) -> str:
    """A sentence if the published order of layers differs from ours; "" if it does not, or is not known."""
    known = [line for line in lines if line.published is not None]
    ours = [line.layer for line in sorted(known, key=lambda line: line.value)]
    theirs = [line.layer for line in sorted(known, key=lambda line: line.published or 0.0)]
    if ours == theirs:
        return ""
    return f"the order differs from the published one: ours {', '.join(ours)}; published {', '.join(theirs)}"


def lengths_of(config: CompareConfig) -> list[int]:
    """Numbers of examples for which errors are reported: 8, for which there are published ones, and all."""
    return sorted({n for n in (8, config.examples) if n <= config.examples})
