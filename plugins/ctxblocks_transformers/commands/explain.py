"""`ctxblocks explain`: how the layers of a language model are wired, and which weights take the update in each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
from rich.console import Console

from ctxblocks import WIRINGS, registry
from ctxblocks.cli import Device, Json, UnusedSeed, console, new_table, print_json, print_lines
from ctxblocks_transformers.commands.options import Model

if TYPE_CHECKING:
    from ctxblocks_transformers import LayerReport, ModelReport


def explain(model: Model, *, as_json: Json = False, seed: UnusedSeed = 0, device: Device = "auto") -> None:
    """Print wiring, input projections, shapes and formulas of a language model, layer by layer.

    For a registered model type the configuration of the model suffices. The wiring of any other model is guessed from its
    activations on a few tokens, and is used only if the identity holds with it.
    """
    report = _explained(model, device)
    if as_json:
        print_json(_plain(report))
    else:
        _print(report, console())


def _explained(model: str, device: str) -> "ModelReport":
    import ctxblocks_transformers as lm

    skeleton = lm.load_skeleton(model)
    if registry().family(skeleton.config.model_type) is not None:
        return lm.explain(skeleton)
    return lm.explain(lm.load_model(model, device=device)[0])


def _plain(report: "ModelReport") -> dict[str, Any]:
    """The report as JSON's own types."""
    return {
        "model": report.kind,
        "model_type": report.model_type,
        "family": report.family,
        "layers": report.layers,
        "rows": [_plain_row(row) for row in report.rows],
    }


def _plain_row(row: "LayerReport") -> dict[str, Any]:
    spec = attrs.asdict(row.spec)
    return {
        "first_layer": row.first,
        "last_layer": row.last,
        "class": row.kind,
        **spec,
        "equations": WIRINGS[row.spec.wiring],
        "site": row.site,
        "readers": {name: list(shape) for name, shape in row.readers.items()},
        "output_projection": {name: list(shape) for name, shape in row.projection.items()},
        "update": row.update,
        "shift": row.shift,
    }


def _print(report: "ModelReport", out: Console) -> None:
    """Print one line for each run of equal layers, then the wirings and formulas."""
    print_lines(out, [f"{report.kind} ({report.model_type}), family {report.family}, layers at {report.layers}"])
    heads = ("layers", "class", "wiring", "mixer", "takes the update", "output projection")
    table = new_table(out, *heads)
    for row in report.rows:
        table.add_row(
            _span(row), row.kind, row.spec.wiring, row.spec.mixer or "–", _named(row.changed), _named(row.projection)
        )
    out.print(table)
    print_lines(
        out, (f"{wiring}: {WIRINGS[wiring]}" for wiring in dict.fromkeys(row.spec.wiring for row in report.rows))
    )
    for update, shift in dict.fromkeys((row.update, row.shift) for row in report.rows):
        spans = ", ".join(_span(row) for row in report.rows if (row.update, row.shift) == (update, shift))
        print_lines(out, [f"layers {spans}: {update}; shift: {shift}"])


def _span(row: "LayerReport") -> str:
    return str(row.first) if row.first == row.last else f"{row.first}–{row.last}"


def _named(tensors: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in tensors.items()) or "–"
