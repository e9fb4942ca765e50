"""Claims about a comparison, each with its criterion, the numbers and the verdict."""

import math
from collections.abc import Iterator

from ctxblocks.comparison.config import ERROR, CompareConfig
from ctxblocks.comparison.folder import Comparison
from ctxblocks.comparison.series import Key, Measurements
from ctxblocks.comparison.summary import lengths_of, lines_of, order_differs
from ctxblocks.runs.claims import Claim, all_hold

SIGNIFICANT = "at 95 % by Student's t"


def check(comparison: Comparison, seen: Measurements) -> Iterator[Claim]:
    """The claims about every task with a measured model."""
    config = comparison.config
    for task in config.tasks:
        if seen.layers(task):
            yield _learned(config, seen, task)
            yield _as_good_as_statistics(config, seen, task)
            yield _change_falls(comparison, seen, task)
            yield from _order(config, seen, task)


def _learned(config: CompareConfig, seen: Measurements, task: str) -> Claim:
    verdicts: dict[str, bool | None] = {}
    for layer in seen.layers(task):
        trained, untrained = (seen.series(Key(task, layer, control, ERROR)) for control in ("trained", "untrained"))
        verdicts[layer] = None if trained is None or untrained is None else (untrained.last - trained.last).above_zero
    return Claim(
        about=task,
        statement="training teaches every layer to use the context",
        criterion=f"with all {config.examples} examples the error is below the untrained twin's {SIGNIFICANT}",
        measured=_listed(verdicts),
        holds=all_hold(list(verdicts.values())),
    )


def _as_good_as_statistics(config: CompareConfig, seen: Measurements, task: str) -> Claim:
    lines = lines_of(seen, task, config.inputs, config.examples)
    reached: list[str] = []
    for line in lines:
        series = seen.series(Key(task, line.layer, "trained", ERROR))
        if series is not None and series.last.value <= line.best + series.last.margin:
            reached.append(line.layer)
    first = lines[0] if lines else None
    baseline = f"{first.baseline} {first.best:.2g}" if first and first.baseline else "no baseline yet"
    return Claim(
        about=task,
        statement="some layer predicts as well as the best baseline",
        criterion=f"with all examples its error does not exceed the baseline's {SIGNIFICANT}",
        measured=f"{', '.join(reached) or 'none'}; "
        + (f"{first.layer} {first.value:.3g} ± {first.error:.1g}, " if first else "")
        + baseline,
        holds=bool(reached) if first and first.baseline else None,
    )


def _change_falls(comparison: Comparison, seen: Measurements, task: str) -> Claim:
    """Needs a probe with an exponent, the marginal change."""
    name = next((words.exponent for words in comparison.origin.probes.values() if words.exponent), "decay-exponent")
    verdicts: dict[str, bool | None] = {}
    for layer in seen.layers(task):
        lows = [
            seen.number(Key(task, layer, "trained", f"{name}-low", block=block))
            for block in range(comparison.config.blocks)
        ]
        verdicts[layer] = all_hold([None if low is None or math.isnan(low.value) else low.value > 0 for low in lows])
    return Claim(
        about=task,
        statement="the longer the context, the less one more token changes the weights",
        criterion="in every block of every trained model the 95 % interval of the decay exponent is above 0",
        measured=_listed(verdicts),
        holds=all_hold(list(verdicts.values())),
    )


def _order(config: CompareConfig, seen: Measurements, task: str) -> Iterator[Claim]:
    """For settings with published errors."""
    for n in lengths_of(config):
        lines = lines_of(seen, task, config.inputs, n)
        known = [line for line in lines if line.published is not None]
        if len(known) > 1:
            differs = order_differs(lines)
            ours = ", ".join(f"{line.layer} {line.value:.3g} ± {line.error:.1g} ({line.published:g})" for line in known)
            yield Claim(
                about=task,
                statement=f"after {n} examples the layers come in the published order",
                criterion="means in the order of Lee, Jiang and Berg-Kirkpatrick 2024",
                measured=f"{ours}, published in brackets" + (f"; {differs}" if differs else ""),
                holds=not differs,
            )


def _listed(verdicts: dict[str, bool | None]) -> str:
    """The layers for which a claim holds, then those for which it does not, then those without numbers."""
    held, failed, absent = ([layer for layer, verdict in verdicts.items() if verdict is v] for v in (True, False, None))
    parts = [", ".join(held) or "none"]
    parts += [f"not {', '.join(failed)}"] if failed else []
    parts += [f"not measured: {', '.join(absent)}"] if absent else []
    return "; ".join(parts)
