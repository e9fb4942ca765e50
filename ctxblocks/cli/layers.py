"""`ctxblocks layers`: the registered layers with their providers, and the plugins that failed."""

from typing import Any

import attrs
from rich.console import Console

from ctxblocks.base.messages import describe
from ctxblocks.cli.options import Json, UnusedDevice, UnusedSeed
from ctxblocks.cli.printing import console, new_table, print_json, print_lines
from ctxblocks.registration.plugins import BLOCK
from ctxblocks.registration.registry import Registry, registry
from ctxblocks.registration.specs import LayerSpec


def layers(*, as_json: Json = False, seed: UnusedSeed = 0, device: UnusedDevice = "auto") -> None:
    """List all registered layers with their providers, traits and parameters, and the plugins that failed."""
    shared = registry()
    if as_json:
        print_json(_listing(shared))
    else:
        _print(shared, console())


def _listing(shared: Registry) -> dict[str, Any]:
    """The listing, as JSON's own types."""
    return {
        "layers": [_layer(spec, shared.providers[name]) for name, spec in shared.layers.items()],
        "failures": {plugin: describe(error) for plugin, error in shared.failures.items()},
        "clashes": {name: list(plugins) for name, plugins in shared.clashes.items()},
        "blocked": list(shared.blocked),
    }


def _layer(spec: LayerSpec, provider: str) -> dict[str, Any]:
    always, sometimes = _claims(spec)
    return {
        "name": spec.name,
        "provider": provider,
        "summary": spec.summary,
        "traits": {"always": always, "sometimes": sometimes},
        "parameters": [_parameter(field) for field in attrs.fields(spec.config) if field.init],
    }


def _claims(spec: LayerSpec) -> tuple[list[str], list[str]]:
    """The traits that all example configurations claim, and those that only some of them claim."""
    claims = [attrs.asdict(spec.traits(example)) for example in spec.examples]
    held = {trait: [claim[trait] not in (False, None) for claim in claims] for trait in claims[0]}
    always = [trait for trait, values in held.items() if all(values)]
    return always, [trait for trait, values in held.items() if any(values) and trait not in always]


def _parameter(field: "attrs.Attribute[Any]") -> dict[str, Any]:
    """A field of a configuration: whether it is required, and else its default; `derived` means computed from other fields."""
    default: Any = field.default
    if default is attrs.NOTHING:
        return {"name": field.alias, "required": True, "default": None}
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = "derived"
    elif not isinstance(default, bool | int | float | str | None):
        default = repr(default)
    return {"name": field.alias, "required": False, "default": default}


def _print(shared: Registry, out: Console) -> None:
    rows = _listing(shared)["layers"]
    table = new_table(out, "layer", "provider", "traits", "parameters", "summary")
    table.columns[0].no_wrap = True
    for row in rows:
        traits = [*row["traits"]["always"], *(f"{trait}*" for trait in row["traits"]["sometimes"])]
        parameters = [p["name"] if p["required"] else f"{p['name']}={p['default']}" for p in row["parameters"]]
        table.add_row(row["name"], row["provider"], ", ".join(traits), ", ".join(parameters), row["summary"])
    out.print(table)
    if any(row["traits"]["sometimes"] for row in rows):
        print_lines(out, ["* in some configurations"])
    print_lines(out, (f"failed: {plugin}: {describe(error)}" for plugin, error in shared.failures.items()))
    for name, plugins in shared.clashes.items():
        print_lines(out, [f"clash: {name} is provided by {' and '.join(plugins)}, and neither gets it"])
    if shared.blocked:
        print_lines(out, [f"left out by {BLOCK}: {', '.join(shared.blocked)}"])
