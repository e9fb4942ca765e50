"""Single plugins: finding those that are installed, importing one, and reading its hooks."""

import importlib.metadata
import inspect
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import attrs
import pluggy

from ctxblocks.base.errors import PluginError
from ctxblocks.base.messages import closest, listed
from ctxblocks.registration import hooks as _hookspecs
from ctxblocks.registration.commands import GROUP, CommandSpec
from ctxblocks.registration.families import FamilySpec
from ctxblocks.registration.isolation import plugin_code
from ctxblocks.registration.observers import ObserverSpec
from ctxblocks.registration.probes import Probe
from ctxblocks.registration.sections import SectionSpec
from ctxblocks.registration.specs import PROJECT, LayerSpec, Traits
from ctxblocks.registration.tasks import TaskSpec

BLOCK = "CTXBLOCKS_BLOCK"
PREFIX = f"{PROJECT}_"
HOOKS = tuple(sorted(name for name in vars(_hookspecs) if name.startswith(PREFIX)))


@attrs.frozen
class Plugin:
    """A plugin that loaded: its name, the object that holds its hooks, and what they returned."""

    name: str
    source: object
    layers: tuple[LayerSpec, ...] = ()
    families: tuple[FamilySpec, ...] = ()
    probes: tuple[Probe, ...] = ()
    tasks: tuple[TaskSpec, ...] = ()
    observers: tuple[ObserverSpec, ...] = ()
    sections: tuple[SectionSpec, ...] = ()
    commands: tuple[CommandSpec, ...] = ()


Offers = dict[str, list[tuple[str, Any]]]
KINDS: Mapping[str, tuple[type[Any], str]] = {
    "layers": (LayerSpec, "ctxblocks.LayerSpec(name=…, summary=…, config=…, build=…)"),
    "families": (FamilySpec, "ctxblocks.FamilySpec(name=…, models=…, layers=…, blocks=…)"),
    "probes": (Probe, "ctxblocks.Probe(name=…, summary=…, measure=…)"),
    "tasks": (TaskSpec, "ctxblocks.TaskSpec(name=…, summary=…, config=…, sample=…, baselines=…)"),
    "observers": (ObserverSpec, "ctxblocks.ObserverSpec(name=…, summary=…, open=…)"),
    "sections": (SectionSpec, "ctxblocks.SectionSpec(kind=…, summary=…, read=…)"),
    "commands": (CommandSpec, "ctxblocks.CommandSpec(name=…, summary=…, function=…)"),
}
"""The class of the objects that the hook of each kind, `ctxblocks_<kind>`, returns, and how one is built."""
SINGULAR = {kind: kind.removesuffix("s") for kind in KINDS} | {"families": "family"}


def installed(group: str = PROJECT) -> dict[str, list[importlib.metadata.EntryPoint]]:
    """Every entry point of a group, by `distribution:entry-point`; two under one name are an error of that plugin."""
    entries: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for entry in importlib.metadata.entry_points(group=group):
        entries.setdefault(f"{_distribution(entry)}:{entry.name}", []).append(entry)
    return dict(sorted(entries.items()))


def _distribution(entry: importlib.metadata.EntryPoint) -> str:
    """The name of the entry point's distribution; where it has no metadata, that of its folder `<name>-<version>.dist-info`."""
    if entry.dist is None:
        return "unknown"
    named: str | None = entry.dist.metadata["Name"]
    if named:
        return named
    folder = getattr(entry.dist, "_path", None)  # importlib has no public name for it
    return "unknown" if folder is None else str(folder.name).rpartition(".")[0].partition("-")[0].replace("_", "-")


def load(name: str, entries: list[importlib.metadata.EntryPoint]) -> Plugin:
    """Import an installed plugin and read its hooks; errors of its import propagate."""
    if len(entries) > 1:
        raise PluginError(
            f"plugin {name!r}: its distribution announces this entry point {len(entries)} times "
            f"({', '.join(entry.value for entry in entries)}), needs one; give each a name of its own"
        )
    if not entries[0].pattern.match(entries[0].value):
        raise PluginError(
            f"plugin {name!r}: its entry point is {entries[0].value!r}, needs a reference such as 'package.module'; "
            f"correct it in the distribution's pyproject.toml"
        )
    with plugin_code():
        plugin = read(name, entries[0].load())
    if plugin.commands and entries[0].group != GROUP:
        raise PluginError(
            f"plugin {name!r}: provides commands, and is announced in the group {PROJECT!r}; move its hook ctxblocks_commands "
            f"into a light module, and announce that in the group {GROUP!r}"
        )
    return plugin


def read(name: str, source: object) -> Plugin:
    """Check the hooks of one plugin and call them, without touching any other.

    Raises:
        PluginError: a hook is unknown, unmarked or takes arguments, or returned something of the wrong type.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(_hookspecs)
    try:
        manager.register(source, name)
    except pluggy.PluginValidationError as error:
        raise PluginError(f"plugin {name!r}: {' '.join(str(error).split())}; hooks take no argument") from error
    callers = manager.get_hookcallers(source) or []
    _check_hooks(name, source, callers)
    specs = {kind: _read_hook(name, kind, getattr(manager.hook, PREFIX + kind)) for kind in KINDS}
    for spec in specs["layers"]:
        _check_claims(name, spec)
    return Plugin(name, source, **specs)


def offers(plugins: Mapping[str, Plugin], kind: str, names: Callable[[Any], Collection[str]]) -> Offers:
    """The specs of one kind with their providers: `(plugin, spec)` pairs by each name of the spec, all sorted."""
    pairs = [
        (name, plugin.name, spec)
        for _, plugin in sorted(plugins.items())
        for spec in getattr(plugin, kind)
        for name in names(spec)
    ]
    by_name: Offers = {}
    for name, provider, spec in sorted(pairs, key=lambda pair: pair[0]):
        by_name.setdefault(name, []).append((provider, spec))
    return by_name


def only_offer(what: str, offered: list[tuple[str, Any]]) -> Any:
    """The only spec, or None where there is none.

    Raises:
        PluginError: two plugins provide it.
    """
    if len(offered) > 1:
        names = " and ".join(repr(plugin) for plugin, _ in offered)
        raise PluginError(f"{what}: the plugins {names} both provide it; leave one out with {BLOCK}")
    return offered[0][1] if offered else None


def only_offers(by_name: Offers) -> Mapping[str, Any]:
    """The specs of all names that exactly one plugin provides, read-only."""
    return MappingProxyType({name: pairs[0][1] for name, pairs in by_name.items() if len(pairs) == 1})


def blocked(block: str, known: Collection[str]) -> tuple[str, ...]:
    """The installed plugins named by a list such as `my-package:ema, rnn`, each in full or by its entry point."""
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
    """Whether the name of the plugin's entry point is the layer's name, or whole words of it."""
    entry = entry_point(plugin).lower().replace("_", "-")
    return f"-{entry}-" in f"-{layer}-"


def entry_point(plugin: str) -> str:
    """The name of the entry point: `ema` of `my-package:ema`."""
    return plugin.rpartition(":")[2]


def _check_hooks(name: str, source: object, callers: list[pluggy.HookCaller]) -> None:
    """Refuse hooks with unknown names, functions that are named like hooks without the marker, and plugins without a hook."""
    marked = {caller.name for caller in callers}
    for caller in callers:
        if not caller.has_spec() and not all(hook.optionalhook for hook in caller.get_hookimpls()):
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


def _read_hook(name: str, kind: str, caller: pluggy.HookCaller) -> tuple[Any, ...]:
    """Call one hook of a plugin, if it has it, and refuse results other than a list (or tuple) of its value objects."""
    wanted, how = KINDS[kind]
    specs: list[Any] = []
    for hook in caller.get_hookimpls():
        result = hook.function()
        if not isinstance(result, list | tuple):
            raise PluginError(
                f"plugin {name!r}: its hook {PREFIX}{kind} returned {result!r}, needs a list of {wanted.__name__}"
            )
        for spec in result:
            if not isinstance(spec, wanted):
                raise PluginError(
                    f"plugin {name!r}: its hook {PREFIX}{kind} returned a list that holds {spec!r}, "
                    f"needs {wanted.__name__} objects only; wrap it as {how}"
                )
        specs.extend(result)
    _check_unique(name, SINGULAR[kind], [spec.name for spec in specs])
    return tuple(specs)


def _check_unique(name: str, what: str, provided: list[str]) -> None:
    twice = sorted({one for one in provided if provided.count(one) > 1})
    if twice:
        raise PluginError(
            f"plugin {name!r}: provides the {what} {twice[0]!r} twice, needs one; rename or drop the other"
        )


def _check_claims(name: str, spec: LayerSpec) -> None:
    """Refuse examples that are not of the configuration class, and claims that are not `Traits`."""
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
