"""`ctxblocks explain`: how the layers of a language model are wired, and what takes the update in each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

from ctxblocks.cli.options import Device, Json, Model, Seed, console, print_json
from ctxblocks.registration.families import WIRINGS
from ctxblocks.registration.registry import registry

if TYPE_CHECKING:
    from ctxblocks_transformers import LayerReport, ModelReport


def explain(model: Model, *, as_json: Json = False, seed: Seed = 0, device: Device = "auto") -> None:
    """Print wiring, readers, shapes and formulas of a language model, layer by layer.

    A model whose type is registered is read from its configuration alone; the layers of any other are watched on a few
    tokens, and their wiring is used only if the identity holds with it.
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
    """One line for each run of like layers, then what the wirings and formulas are."""
    out.print(f"{report.kind} ({report.model_type}), family {report.family}, layers at {report.layers}", soft_wrap=True)
    heads = ("layers", "class", "wiring", "mixer", "takes the update", "output projection")
    table = Table(*heads, box=box.SIMPLE_HEAD if out.is_terminal else None)
    for column in table.columns:
        column.overflow = "fold"
    for row in report.rows:
        table.add_row(_span(row), row.kind, row.spec.wiring, row.spec.mixer or "–", _takes(row), _named(row.projection))
    out.print(table)
    for wiring in dict.fromkeys(row.spec.wiring for row in report.rows):
        out.print(f"{wiring}: {WIRINGS[wiring]}", soft_wrap=True)
    for update, shift in dict.fromkeys((row.update, row.shift) for row in report.rows):
        spans = ", ".join(_span(row) for row in report.rows if (row.update, row.shift) == (update, shift))
        out.print(f"layers {spans}: {update}; shift: {shift}", soft_wrap=True)


def _span(row: "LayerReport") -> str:
    return str(row.first) if row.first == row.last else f"{row.first}–{row.last}"


def _takes(row: "LayerReport") -> str:
    """The tensors of the site, with their shapes; of a parallel block there are none."""
    if not row.site or (row.site == "network" and row.spec.wiring == "parallel"):
        return "–"
    return _named(row.readers if row.site == "network" else row.projection)


def _named(tensors: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in tensors.items()) or "–"
