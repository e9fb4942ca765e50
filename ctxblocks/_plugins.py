"""Plugins one at a time: finding what is installed, importing it, and reading its hooks."""

import importlib.metadata
import inspect
from collections.abc import Collection

import attrs
import pluggy

from ctxblocks import _hookspecs
from ctxblocks._errors import PluginError
from ctxblocks._messages import closest, listed
from ctxblocks._specs import PROJECT, LayerSpec, Traits

BLOCK = "CTXBLOCKS_BLOCK"
PREFIX = f"{PROJECT}_"
HOOKS = tuple(sorted(name for name in vars(_hookspecs) if name.startswith(PREFIX)))


@attrs.frozen
class Plugin:
    """A plugin that loaded: its name, the object that holds its hooks, and what they returned."""

    name: str
    source: object
    layers: tuple[LayerSpec, ...]


def installed() -> dict[str, list[importlib.metadata.EntryPoint]]:
    """Every entry point of the group, by `distribution:entry-point`; two under one name are a fault."""
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for entry in importlib.metadata.entry_points(group=PROJECT):
        distribution = entry.dist.name if entry.dist is not None else "unknown"
        found.setdefault(f"{distribution}:{entry.name}", []).append(entry)
    return dict(sorted(found.items()))


def load(name: str, entries: list[importlib.metadata.EntryPoint]) -> Plugin:
    """Import an installed plugin and read its hooks; whatever its import raises passes through."""
    if len(entries) > 1:
        raise PluginError(
            f"plugin {name!r}: its distribution announces this entry point {len(entries)} times "
            f"({', '.join(entry.value for entry in entries)}), needs one; give each a name of its own"
        )
    return read(name, entries[0].load())


def read(name: str, source: object) -> Plugin:
    """Check the hooks of one plugin and call them, without touching any other.

    Raises:
        PluginError: a hook is unknown, unmarked or takes arguments, or returned something else than layers.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(_hookspecs)
    try:
        manager.register(source, name)
    except pluggy.PluginValidationError as error:
        raise PluginError(f"plugin {name!r}: {' '.join(str(error).split())}; hooks take no argument") from error
    callers = manager.get_hookcallers(source) or []
    _check_hooks(name, source, callers)
    results = [found.function() for found in manager.hook.ctxblocks_layers.get_hookimpls()]
    specs = [spec for result in results for spec in _check_list(name, result)]
    _check_unique(name, [spec.name for spec in specs])
    for spec in specs:
        _check_claims(name, spec)
    return Plugin(name, source, tuple(specs))


def blocked(block: str, known: Collection[str]) -> tuple[str, ...]:
    """The installed plugins that a list such as `my-package:ema, rnn` names, each in full or by its entry point."""
    chosen: set[str] = set()
    for asked in filter(None, (part.strip() for part in block.split(","))):
        matches = {name for name in known if asked in (name, entry_point(name))}
        if not matches:
            raise PluginError(
                f"{BLOCK}: got {asked!r}, needs names of installed plugins: {listed(known)}{closest(asked, known)}"
            )
        chosen |= matches
    return tuple(sorted(chosen))


def bears(plugin: str, layer: str) -> bool:
    """Whether a layer's name is, or holds as whole words, the name of the plugin's entry point."""
    entry = entry_point(plugin).lower().replace("_", "-")
    return f"-{entry}-" in f"-{layer}-"


def entry_point(plugin: str) -> str:
    """`ema` of `my-package:ema`."""
    return plugin.rpartition(":")[2]


def _check_hooks(name: str, source: object, callers: list[pluggy.HookCaller]) -> None:
    """Refuse hooks of unknown names, functions that look like hooks and lack the marker, and plugins without a hook."""
    marked = {caller.name for caller in callers}
    for caller in callers:
        if not caller.has_spec() and not all(found.optionalhook for found in caller.get_hookimpls()):
            raise PluginError(
                f"plugin {name!r}: got a hook named {caller.name!r}, needs one of {', '.join(HOOKS)}"
                f"{closest(caller.name, HOOKS)}"
            )
    for attribute in dir(source):
        if attribute.startswith(PREFIX) and attribute not in marked and inspect.isroutine(getattr(source, attribute)):
            raise PluginError(
                f"plugin {name!r}: its function {attribute!r} is named like a hook and is not marked as one; "
                f"put @ctxblocks.hookimpl on it if it is one of {', '.join(HOOKS)}, else give it another name"
            )
    if not marked:
        raise PluginError(
            f"plugin {name!r}: got {source!r} without a hook, needs at least one of {', '.join(HOOKS)}, "
            f"a function marked with @ctxblocks.hookimpl"
        )


def _check_list(name: str, result: object) -> list[LayerSpec]:
    """Refuse what is not a list (or tuple) of layer specifications."""
    if not isinstance(result, list | tuple):
        raise PluginError(f"plugin {name!r}: its hook ctxblocks_layers returned {result!r}, needs a list of LayerSpec")
    for spec in result:
        if not isinstance(spec, LayerSpec):
            raise PluginError(
                f"plugin {name!r}: its hook ctxblocks_layers returned a list that holds {spec!r}, "
                f"needs LayerSpec objects only; wrap it as ctxblocks.LayerSpec(name=…, summary=…, config=…, build=…)"
            )
    return list(result)


def _check_unique(name: str, layers: list[str]) -> None:
    twice = sorted({layer for layer in layers if layers.count(layer) > 1})
    if twice:
        raise PluginError(
            f"plugin {name!r}: provides the layer {twice[0]!r} twice, needs one; rename or drop the other"
        )


def _check_claims(name: str, spec: LayerSpec) -> None:
    """Refuse examples of another class than the configuration's, and claims that are not `Traits`."""
    for example in spec.examples:
        if not isinstance(example, spec.config):
            raise PluginError(
                f"plugin {name!r}: layer {spec.name!r} has the example {example!r}, needs a {spec.config.__name__}"
            )
        claims = spec.traits(example)
        if not isinstance(claims, Traits):
            raise PluginError(
                f"plugin {name!r}: traits of layer {spec.name!r} returned {claims!r} for {example!r}, "
                f"needs ctxblocks.Traits(…)"
            )
