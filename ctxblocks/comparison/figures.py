"""The figures of a comparison: curves of trained models with their untrained twins, errors with the best baseline."""

from collections.abc import Iterator

import numpy as np

from ctxblocks.comparison.captions import ERRORS, LAYERS, of_probe, settings
from ctxblocks.comparison.conditions import CONDITIONS
from ctxblocks.comparison.config import ERROR, CompareConfig
from ctxblocks.comparison.folder import Comparison, Words
from ctxblocks.comparison.series import Key, Measurements, Series
from ctxblocks.registration.probes import TOKENS
from ctxblocks.runs.figure import BLACK, GREY, Curve, Figure, Panel
from ctxblocks.runs.statistics import Array

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#a6398c",
    "#b8860b",
    "#4b4bc8",
    "#7a4b2a",
    "#1b9ab5",
    "#c2255c",
    "#5b7f1e",
)
"""Colours of the layers, in order."""
CONTROLS = {"trained": "line", "untrained": "dashed"}
PANELS_IN_ROW = 3
SPAN = 100.0
"""Ratio of the largest to the smallest value from which on a panel has a logarithmic axis."""
EXACT = 1e-9
"""An error below this share of the largest in a panel is round-off."""


def compose(comparison: Comparison, seen: Measurements) -> list[Figure]:
    """All figures of the complete cells, task by task; `seen` holds the numbers of the comparison."""
    return [
        figure for task in comparison.config.tasks if seen.layers(task) for figure in _of_task(comparison, seen, task)
    ]


def _of_task(comparison: Comparison, seen: Measurements, task: str) -> Iterator[Figure]:
    config, said = comparison.config, settings(comparison.config, task)
    yield _figure("error", task, _errors(config, seen, task), f"{LAYERS} {said}", "errors in context")
    by_layer = [_by_layer(config, seen, task, layer) for layer in seen.layers(task)]
    yield _figure("by-layer", task, by_layer, f"{ERRORS} {said}", "each layer with its controls")
    robust = [_under(config, seen, task, condition) for condition in CONDITIONS]
    yield _figure("robustness", task, robust, f"{_conditions(config)} {said}", "errors under noise and corruption")
    for probe, words in comparison.origin.probes.items():
        panels = _of_probe(config, seen, (task, probe), words)
        if probe != ERROR and panels:
            caption = f"{of_probe(probe, words)} {said}"
            yield _figure(probe, task, panels, caption, probe.replace("-", " "))


def _figure(kind: str, task: str, panels: list[Panel], caption: str, title: str) -> Figure:
    rows = tuple(
        tuple((panel,) for panel in panels[start : start + PANELS_IN_ROW])
        for start in range(0, len(panels), PANELS_IN_ROW)
    )
    return Figure(name=f"{kind}--{task}", title=f"{task}: {title}", rows=rows, caption=caption, shared=True)


def _conditions(config: CompareConfig) -> str:
    noise, share = f"{config.noise:g} standard deviations of the labels", f"{config.corruption:.0%} of the tokens"
    return (
        "Squared error after n tokens under three conditions, of which models were trained on the first only: as in training; "
        f"{CONDITIONS['noise']} ({noise}); {CONDITIONS['corruption']} ({share})."
    )


def _errors(config: CompareConfig, seen: Measurements, task: str) -> list[Panel]:
    """One panel with all layers, and one with their untrained twins, each with all baselines."""
    return [
        _panel("trained", seen.layers(task), config, seen, task, ("trained",), baselines=9),
        _panel("untrained twins", seen.layers(task), config, seen, task, ("untrained",), baselines=9),
    ]


def _by_layer(config: CompareConfig, seen: Measurements, task: str, layer: str) -> Panel:
    return _panel(layer, [layer], config, seen, task, tuple(CONTROLS), baselines=1)


def _under(config: CompareConfig, seen: Measurements, task: str, condition: str) -> Panel:
    return _panel(condition, seen.layers(task), config, seen, task, tuple(CONTROLS), baselines=1, condition=condition)


def _panel(
    title: str,
    layers: list[str],
    config: CompareConfig,
    seen: Measurements,
    task: str,
    controls: tuple[str, ...],
    baselines: int,
    condition: str = "clean",
) -> Panel:
    """Errors against `n`."""
    curves = [
        _curve(config, layer, control, series)
        for layer in layers
        for control in controls
        if (series := seen.series(Key(task, layer, control, ERROR, condition))) is not None
    ]
    shades = (BLACK, GREY)
    best = list(seen.baselines(task, condition).items())[:baselines]
    floor = _floor([*(curve.y for curve in curves), *(series.value for _, series in best)])
    curves += [
        Curve(
            label=name,
            x=series.n,
            y=np.maximum(series.value, floor),
            colour=shades[place > 0],
            style="dotted" if place < 2 else "dashdot",
            group=f"baseline: {name}",
            control="baseline",
        )
        for place, (name, series) in enumerate(best)
    ]
    return _scaled(title, "squared error (mean ± SE)", curves, logarithmic=True)


def _floor(values: list[Array]) -> float:
    """The value at which an exact baseline is drawn, since its round-off would take most of a logarithmic axis."""
    joined = np.concatenate([*values, np.ones(1)])
    return float(joined[joined > EXACT * joined.max()].min()) / 10


def _curve(config: CompareConfig, layer: str, control: str, series: Series) -> Curve:
    return Curve(
        label=layer if control == "trained" else f"{layer}, {control}",
        x=series.n,
        y=series.value,
        error=series.error if np.isfinite(series.error).all() else None,
        colour=COLOURS[config.layers.index(layer) % len(COLOURS)],
        style=CONTROLS[control],
        group=layer,
        control=control,
    )


def _of_probe(config: CompareConfig, seen: Measurements, of: tuple[str, str], words: Words) -> list[Panel]:
    """A panel for every block; for a summed probe, one with the sum over blocks; for numbers without `n`, one against blocks."""
    task, probe = of
    blocks = seen.blocks(task, probe)
    if words.summed:
        return [_scaled("all blocks", probe, _sums(config, seen, (task, probe), blocks))]
    panels = []
    for block in blocks:
        curves = [
            _curve(config, layer, control, series.starting_at(words.first))
            for layer in seen.layers(task)
            for control in CONTROLS
            if (series := seen.series(Key(task, layer, control, probe, block=block))) is not None
        ]
        if curves:
            title = f"block {block + 1} of {config.blocks}"
            panels.append(_scaled(title, f"{probe} (mean ± SE)", curves, words.scale, words.places))
    return panels or _against_blocks(config, seen, task, probe, blocks)


def _sums(config: CompareConfig, seen: Measurements, of: tuple[str, str], blocks: list[int]) -> list[Curve]:
    """The sum over all blocks, of trained models."""
    task, probe = of
    curves = []
    for layer in seen.layers(task):
        each = [seen.series(Key(task, layer, "trained", probe, block=block)) for block in blocks]
        parts = [series for series in each if series is not None]
        if parts:
            total = np.asarray(np.sum([part.value for part in parts], axis=0))
            series = Series(parts[0].n, total, np.full(len(total), np.nan), parts[0].samples)
            curves.append(_curve(config, layer, "trained", series))
    return curves


def _against_blocks(config: CompareConfig, seen: Measurements, task: str, probe: str, blocks: list[int]) -> list[Panel]:
    curves = []
    for layer in seen.layers(task):
        for control in CONTROLS:
            each = [seen.number(Key(task, layer, control, probe, block=block)) for block in blocks]
            values = np.array([(number.value, number.error) for number in each if number is not None])
            if len(values) == len(blocks) > 0:
                places = np.arange(1.0, len(blocks) + 1)
                curves.append(_curve(config, layer, control, Series(places, values[:, 0], values[:, 1], config.seeds)))
    return [_scaled("blocks", f"{probe} (mean ± SE)", curves, xlabel="block")] if curves else []


def _scaled(
    title: str, ylabel: str, curves: list[Curve], scale: str = "auto", xlabel: str = TOKENS, logarithmic: bool = False
) -> Panel:
    """A panel whose values, if all are positive, are on a logarithmic axis where that is requested or they span much."""
    values: Array = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves]) if curves else np.ones(1)
    positive = len(values) > 0 and values.min() > 0
    both = scale == "log-log"
    wide = logarithmic or both or (positive and values.max() > SPAN * values.min())
    return Panel(
        title=title,
        xlabel=xlabel,
        ylabel=ylabel,
        curves=tuple(curves),
        xscale="log" if both and positive else "linear",
        yscale="log" if wide and positive else "linear",
        legend=None,
    )
