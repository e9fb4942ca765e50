"""The figures of a comparison: every curve beside its untrained twin, and errors beside the best baseline."""

from collections.abc import Iterator

import numpy as np

from ctxblocks.comparison.captions import ERRORS, LAYERS, of_probe, settings
from ctxblocks.comparison.conditions import CONDITIONS
from ctxblocks.comparison.config import ERROR, CompareConfig
from ctxblocks.comparison.folder import Comparison
from ctxblocks.comparison.measuring import CHANGE, STATE
from ctxblocks.comparison.series import Array, Key, Measurements, Series
from ctxblocks.registration.probes import TOKENS
from ctxblocks.runs.figure import BLACK, GREY, Curve, Figure, Panel

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
"""Of the layers, one after another."""
CONTROLS = {"trained": "line", "untrained": "dashed"}
PANELS_IN_ROW = 3
SPAN = 100.0
"""From this ratio of its largest to its smallest value on, a panel has a logarithmic axis."""
EXACT = 1e-9
"""An error below this share of a panel's largest is round-off."""


def compose(found: Comparison, seen: Measurements) -> list[Figure]:
    """All figures that the landed cells give, task by task; `seen` holds the numbers of `found`."""
    return [figure for task in found.config.tasks if seen.layers(task) for figure in _of_task(found, seen, task)]


def _of_task(found: Comparison, seen: Measurements, task: str) -> Iterator[Figure]:
    said = settings(found.config, task)
    yield _figure("error", task, _errors(found.config, seen, task), f"{LAYERS} {said}", "errors in context")
    by_layer = [_by_layer(found.config, seen, task, layer) for layer in seen.layers(task)]
    yield _figure("by-layer", task, by_layer, f"{ERRORS} {said}", "each layer beside its controls")
    robust = [_under(found.config, seen, task, condition) for condition in CONDITIONS]
    yield _figure(
        "robustness", task, robust, f"{_conditions(found.config)} {said}", "errors under noise and corruption"
    )
    for probe, words in found.origin.probes.items():
        panels = _of_probe(found.config, seen, (task, probe), words.places)
        if probe != ERROR and panels:
            caption = f"{of_probe(probe, words.summary)} {said}"
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
        "Squared error behind n tokens under conditions that no model was trained on: as in training; "
        f"{CONDITIONS['noise']} ({noise}); {CONDITIONS['corruption']} ({share})."
    )


def _errors(config: CompareConfig, seen: Measurements, task: str) -> list[Panel]:
    """All layers in one panel, then their untrained twins, with all baselines."""
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
    """What an exact baseline is drawn at, since its round-off would take most of a logarithmic axis."""
    found = np.concatenate([*values, np.ones(1)])
    return float(found[found > EXACT * found.max()].min()) / 10


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


def _of_probe(config: CompareConfig, seen: Measurements, of: tuple[str, str], places: str) -> list[Panel]:
    """A panel for every block; of the state, one with the sum over blocks; of numbers without `n`, one against blocks."""
    task, probe = of
    blocks = seen.blocks(task, probe)
    if probe == STATE:
        return [_scaled("all blocks", "numbers kept of the context", _states(config, seen, task, blocks))]
    panels = []
    for block in blocks:
        curves = [
            _curve(config, layer, control, _shown(series, probe))
            for layer in seen.layers(task)
            for control in CONTROLS
            if (series := seen.series(Key(task, layer, control, probe, block=block))) is not None
        ]
        if curves:
            title = f"block {block + 1} of {config.blocks}"
            panels.append(_scaled(title, f"{probe} (mean ± SE)", curves, probe, places))
    return panels or _against_blocks(config, seen, task, probe, blocks)


def _shown(series: Series, probe: str) -> Series:
    """From the first token on where the value without tokens is 0 by definition, and axes are logarithmic."""
    return Series(*(part[1:] for part in series)) if probe == CHANGE else series


def _states(config: CompareConfig, seen: Measurements, task: str, blocks: list[int]) -> list[Curve]:
    curves = []
    for layer in seen.layers(task):
        each = [seen.series(Key(task, layer, "trained", STATE, block=block)) for block in blocks]
        parts = [series for series in each if series is not None]
        if parts:
            total = Series(parts[0].n, np.sum([part.value for part in parts], axis=0), np.full(len(parts[0].n), np.nan))
            curves.append(_curve(config, layer, "trained", total))
    return curves


def _against_blocks(config: CompareConfig, seen: Measurements, task: str, probe: str, blocks: list[int]) -> list[Panel]:
    curves = []
    for layer in seen.layers(task):
        for control in CONTROLS:
            each = [seen.number(Key(task, layer, control, probe, block=block)) for block in blocks]
            values = np.array([(number.value, number.error) for number in each if number is not None])
            if len(values) == len(blocks) > 0:
                places = np.arange(1.0, len(blocks) + 1)
                curves.append(_curve(config, layer, control, Series(places, values[:, 0], values[:, 1])))
    return [_scaled("blocks", f"{probe} (mean ± SE)", curves, xlabel="block")] if curves else []


def _scaled(
    title: str, ylabel: str, curves: list[Curve], probe: str = "", xlabel: str = TOKENS, logarithmic: bool = False
) -> Panel:
    """Logarithmic where that was asked for or values span much, if all are positive; the marginal change on both axes."""
    values: Array = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves]) if curves else np.ones(1)
    positive = len(values) > 0 and values.min() > 0
    both = probe == CHANGE
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
