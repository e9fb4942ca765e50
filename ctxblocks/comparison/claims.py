"""What can be said of a comparison, with its criterion, the numbers and the verdict."""

from collections.abc import Iterator

from ctxblocks.comparison.config import ERROR, CompareConfig
from ctxblocks.comparison.series import Key, Measurements, Series
from ctxblocks.comparison.summary import lengths_of, lines_of, order_differs
from ctxblocks.report.content import Statement

SIGNIFICANT = 2.0
"""Standard errors from which on a difference counts."""


def check(config: CompareConfig, seen: Measurements) -> Iterator[Statement]:
    """The statements of every task with a model."""
    for task in config.tasks:
        if seen.layers(task):
            yield _learned(config, seen, task)
            yield _as_good_as_statistics(config, seen, task)
            yield from _order(config, seen, task)


def _ends(seen: Measurements, task: str, layer: str) -> tuple[Series, Series] | None:
    pair = [seen.series(Key(task, layer, control, ERROR)) for control in ("trained", "untrained")]
    return None if pair[0] is None or pair[1] is None else (pair[0], pair[1])


def _learned(config: CompareConfig, seen: Measurements, task: str) -> Statement:
    below: list[str] = []
    above: list[str] = []
    for layer in seen.layers(task):
        if (pair := _ends(seen, task, layer)) is not None:
            gap = float(pair[1].value[-1] - pair[0].value[-1])
            spread = float((pair[0].error[-1] ** 2 + pair[1].error[-1] ** 2) ** 0.5)
            (below if gap > SIGNIFICANT * spread else above).append(layer)
    return Statement(
        about=task,
        statement="training teaches every layer to use the context",
        criterion=f"with all {config.examples} examples the error lies {SIGNIFICANT:g} standard errors below the "
        "untrained twin's",
        measured=f"{', '.join(below) or 'none'}" + (f"; not {', '.join(above)}" if above else ""),
        holds=not above,
    )


def _as_good_as_statistics(config: CompareConfig, seen: Measurements, task: str) -> Statement:
    lines = lines_of(seen, task, config.inputs, config.examples)
    reached = [line.layer for line in lines if line.value <= line.best + SIGNIFICANT * line.error]
    first = lines[0]
    return Statement(
        about=task,
        statement="some layer predicts as well as the best baseline",
        criterion=f"with all examples its error exceeds the baseline's by at most {SIGNIFICANT:g} of its standard errors",
        measured=f"{', '.join(reached) or 'none'}; {first.layer} {first.value:.3g} ± {first.error:.1g}, "
        + (f"{first.baseline} {first.best:.2g}" if first.baseline else "no baseline yet"),
        holds=bool(reached) if first.baseline else None,
    )


def _order(config: CompareConfig, seen: Measurements, task: str) -> Iterator[Statement]:
    """Where something is published for this setting."""
    for n in lengths_of(config):
        lines = lines_of(seen, task, config.inputs, n)
        known = [line for line in lines if line.published is not None]
        if len(known) > 1:
            differs = order_differs(lines)
            ours = ", ".join(f"{line.layer} {line.value:.3g} ± {line.error:.1g} ({line.published:g})" for line in known)
            yield Statement(
                about=task,
                statement=f"behind {n} examples the layers come in the published order",
                criterion="means in the order of Lee, Jiang and Berg-Kirkpatrick 2024",
                measured=f"{ours}, published in brackets" + (f"; {differs}" if differs else ""),
                holds=not differs,
            )
