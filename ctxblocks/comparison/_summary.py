"""What a comparison's table says: each layer's error beside its untrained twin's and the best baseline's."""

from collections.abc import Iterable

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctxblocks.comparison._config import ERROR, CompareConfig

PUBLISHED = {
    (5, 8): {"ssm": 0.01, "gru": 0.04, "lstm": 0.07, "rnn": 0.26},
    (20, 32): {"self-attention": 0.01, "ssm": 0.03, "lstm": 4.39, "gru": 4.94, "rnn": 8.08},
}
"""Squared errors on linear functions by inputs and examples [Lee, Jiang, Berg-Kirkpatrick 2024], Llama for attention and Mamba
for the state space layer, each the best of a sweep."""


@attrs.frozen
class Line:
    """One layer on one task behind `n` examples.

    Attributes:
        layer: its name.
        task: the task class.
        n: context tokens.
        value: squared error, the mean over seeds.
        error: its standard error over seeds; of one seed, over tasks.
        untrained: of the untrained twins.
        baseline: the best baseline's name.
        best: its error.
        parameters: of the model.
        published: the published error where there is one for this setting.
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
    """The errors behind the lengths given, task by task, the best layer first."""
    lines = []
    table = table.filter(pc.field("condition") == "clean")
    for task in pc.unique(table["task"]).to_pylist():
        for n in lengths:
            part = table.filter((pc.field("task") == task) & (pc.field("probe") == ERROR) & (pc.field("n") == n))
            lines += sorted(_lines(table, part, task, n, inputs), key=lambda line: line.value)
    return lines


def _lines(table: pa.Table, part: pa.Table, task: str, n: int, inputs: int) -> list[Line]:
    rows = part.to_pylist()
    baselines: dict[str, list[float]] = {}
    for row in rows:
        if not row["layer"]:
            baselines.setdefault(row["control"], []).append(row["value"])
    means = {name: float(np.mean(values)) for name, values in baselines.items()}
    name = min(means, key=lambda each: means[each], default="")
    found = []
    for layer in dict.fromkeys(row["layer"] for row in rows if row["layer"]):
        mine = [row for row in rows if row["layer"] == layer and row["control"] == "trained"]
        values = np.array([row["value"] for row in mine])
        spread = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else mine[0]["error"]
        untrained = np.mean([row["value"] for row in rows if row["layer"] == layer and row["control"] == "untrained"])
        size = table.filter((pc.field("layer") == layer) & (pc.field("probe") == "parameters"))["value"][0].as_py()
        known = PUBLISHED.get((inputs, n), {}) if task == "linear" else {}
        line = Line(
            layer,
            task,
            n,
            float(values.mean()),
            float(spread),
            float(untrained),
            name,
            means.get(name, float("nan")),
            int(size),
            known.get(layer),
        )
        found.append(line)
    return found


def order_differs(lines: list[Line]) -> str:
    """One sentence where the published order of layers is another than ours; "" where it is not, or is not known."""
    known = [line for line in lines if line.published is not None]
    ours = [line.layer for line in sorted(known, key=lambda line: line.value)]
    theirs = [line.layer for line in sorted(known, key=lambda line: line.published or 0.0)]
    if ours == theirs:
        return ""
    return f"the order differs from the published one: ours {', '.join(ours)}; published {', '.join(theirs)}"


def lengths_of(config: CompareConfig) -> list[int]:
    """Prefixes whose errors are told: of 8 examples, as published ones are, and all."""
    return sorted({n for n in (8, config.examples) if n <= config.examples})
