"""The registry: what plugins offer, what goes wrong with them, and what each error says."""

import re
import types

import attrs
import pytest
import torch
from hypothesis import given, settings, strategies as st

from ctxblocks import ArgumentError, ContextualLayer, LayerSpec, PluginError, UnknownLayerError, hookimpl
from ctxblocks.registration.registry import Registry


@attrs.frozen(kw_only=True)
class Config:
    """A configuration with one option and one validated width."""

    width: int = attrs.field(validator=attrs.validators.ge(1))
    decay: float = 0.5


class Echo(ContextualLayer):
    """`A(C, x) = x`."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.width)

    def forward(self, query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return query.clone()


def spec(name: str, **changes: object) -> LayerSpec:
    """A layer specification that is right but for the changes."""
    return LayerSpec(**{"name": name, "summary": "the query", "config": Config, "build": Echo, **changes})  # type: ignore[arg-type]


class Plugin:
    """A plugin without a module: an object whose hook returns what it was given."""

    def __init__(self, result: object) -> None:
        self.result = result

    @hookimpl
    def ctxblocks_layers(self) -> object:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def module(name: str, **functions: object) -> types.ModuleType:
    """A module that holds these functions."""
    made = types.ModuleType(name)
    vars(made).update(functions)
    return made


def snapshot(registry: Registry) -> tuple[object, ...]:
    """Everything a registry shows."""
    return tuple(
        dict(view)
        for view in (registry.layers, registry.providers, registry.clashes, registry.plugins, registry.failures)
    )


def test_layers_are_sorted_and_read_only() -> None:
    """Names come in order whoever provides them, and nobody can write into the mapping."""
    registry = Registry()
    registry.register(Plugin([spec("b"), spec("d")]), "one")
    registry.register(Plugin([spec("c"), spec("a")]), "two")
    assert list(registry.layers) == ["a", "b", "c", "d"]
    assert dict(registry.providers) == {"a": "two", "b": "one", "c": "two", "d": "one"}
    with pytest.raises(TypeError):
        registry.layers["e"] = spec("e")  # type: ignore[index]


def test_create_builds_the_configuration_and_then_the_layer() -> None:
    """Keywords become the configuration, and the layer gets it."""
    seen: list[Config] = []

    def build(config: Config) -> Echo:
        seen.append(config)
        return Echo(config)

    registry = Registry()
    registry.register(Plugin([spec("echo", build=build)]))
    layer = registry.create("echo", width=3, decay=0.25)
    assert isinstance(layer, Echo)
    assert layer.width == 3
    assert seen == [Config(width=3, decay=0.25)]


def test_create_refuses_unknown_and_missing_options() -> None:
    """A misspelt option is named with the closest one, a missing one is asked for, and all are listed."""
    registry = Registry()
    registry.register(Plugin([spec("echo")]))
    known = re.escape("the options of layer 'echo' are width, decay")
    with pytest.raises(ArgumentError, match=rf"has no option 'dekay'; did you mean 'decay'\?; {known}"):
        registry.create("echo", width=3, dekay=0.5)
    with pytest.raises(ArgumentError, match=rf"needs the option 'width'; pass width=…; {known}"):
        registry.create("echo", decay=0.5)


def test_what_the_configuration_refuses_passes_through() -> None:
    """The registry does not dress up the configuration's own errors."""
    registry = Registry()
    registry.register(Plugin([spec("echo")]))
    with pytest.raises(ValueError, match="'width' must be >= 1"):
        registry.create("echo", width=0)


def test_create_refuses_what_is_no_layer() -> None:
    """A build that returns something else names the plugin at fault."""
    registry = Registry()
    registry.register(Plugin([spec("echo", build=lambda config: torch.nn.Identity())]), "mine")
    with pytest.raises(PluginError, match=r"layer 'echo': build of the plugin 'mine' returned Identity, needs a ctx"):
        registry.create("echo", width=3)


def test_an_unknown_layer_lists_the_known_and_the_close() -> None:
    """The error for a name that nobody provides helps to find the right one."""
    registry = Registry()
    with pytest.raises(UnknownLayerError, match=r"^layer: got 'eco', needs one of none$"):
        registry.create("eco", width=3)
    registry.register(Plugin([spec("echo"), spec("other")]))
    with pytest.raises(UnknownLayerError, match=r"^layer: got 'eco', needs one of echo, other; did you mean 'echo'\?$"):
        registry.create("eco", width=3)


def test_register_takes_modules_and_objects_and_names_them() -> None:
    """A module goes by its own name, an object by its class's, and either by the name given."""
    registry = Registry()
    assert registry.register(module("mine", ctxblocks_layers=hookimpl(lambda: [spec("a")]))) == "mine"
    assert registry.register(Plugin([spec("b")])) == "Plugin"
    assert registry.register(Plugin([spec("c")]), "another") == "another"
    assert list(registry.plugins) == ["Plugin", "another", "mine"]


def test_unregister_by_object_and_by_name() -> None:
    """What was registered goes again, and the registry is as before."""
    registry = Registry()
    registry.register(Plugin([spec("a")]), "kept")
    before = snapshot(registry)
    added = Plugin([spec("b")])
    for key in (added, "added"):
        registry.register(added, "added")
        assert list(registry.layers) == ["a", "b"]
        registry.unregister(key)
        assert snapshot(registry) == before
    with pytest.raises(PluginError, match=r"^unregister: got 'added', needs one of the loaded plugins: kept$"):
        registry.unregister("added")


REFUSED = {
    "misspelt": (
        module("m", ctxblocks_layer=hookimpl(lambda: [])),
        r"plugin 'bad': got a hook named 'ctxblocks_layer', needs one of ctxblocks_commands, "
        r"ctxblocks_families, ctxblocks_layers, ctxblocks_observers, ctxblocks_probes, ctxblocks_sections, ctxblocks_tasks; "
        r"did you mean 'ctxblocks_layers' or 'ctxblocks_tasks' or 'ctxblocks_families'\?",
    ),
    "unmarked": (
        module("m", ctxblocks_layers=lambda: []),
        "plugin 'bad': its function 'ctxblocks_layers' is named like a hook and is not marked .* put @ctxblocks.hookimpl",
    ),
    "no hook": (
        module("m"),
        "plugin 'bad': got <module 'm'> without a hook, needs at least one of ctxblocks_commands, ctxblocks_families",
    ),
    "nothing": (None, "plugin 'bad': got None without a hook"),
    "argument": (
        module("m", ctxblocks_layers=hookimpl(lambda config: [])),
        r"plugin 'bad': .*ctxblocks_layers.*\{'config'\}.*; hooks take no argument$",
    ),
    "no list": (Plugin(spec("b")), r"plugin 'bad': its hook ctxblocks_layers returned LayerSpec\(.*, needs a list"),
    "no return": (Plugin(None), "plugin 'bad': its hook ctxblocks_layers returned None, needs a list of LayerSpec"),
    "no spec": (
        Plugin([Echo]),
        r"plugin 'bad': .* a list that holds <class .*Echo'>, needs LayerSpec objects only; wrap",
    ),
    "twice": (Plugin([spec("b"), spec("b")]), "plugin 'bad': provides the layer 'b' twice, needs one"),
    "example": (Plugin([spec("b", examples=[4])]), "plugin 'bad': layer 'b' has the example 4, needs a Config"),
    "traits": (
        Plugin([spec("b", traits=lambda config: None)]),
        r"plugin 'bad': traits of layer 'b' returned None for Config\(width=4, decay=0.5\), needs ctxblocks.Traits",
    ),
    "raises": (Plugin(OSError("no\nfile")), "register: a hook of plugin 'bad' raised OSError: no file"),
    "clash": (
        Plugin([spec("b"), spec("a")]),
        "layer 'a': the plugins 'bad' and 'first' both provide it, .* CTXBLOCKS_BLOCK",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_register_refuses_and_changes_nothing(case: str) -> None:
    """Whatever is wrong with a plugin, the error names it and the registry stays as it was."""
    registry = Registry()
    registry.register(Plugin([spec("a")]), "first")
    before = snapshot(registry)
    plugin, message = REFUSED[case]
    with pytest.raises(PluginError, match=message):
        registry.register(plugin, "bad")
    assert snapshot(registry) == before


def test_a_hook_s_own_exception_is_the_cause() -> None:
    """`register` keeps what the hook raised."""
    cause = OSError("gone")
    with pytest.raises(PluginError) as caught:
        Registry().register(Plugin(cause))
    assert caught.value.__cause__ is cause


def test_a_plugin_s_name_is_taken_once() -> None:
    """The second plugin of a name is refused, with the way out."""
    registry = Registry()
    registry.register(Plugin([spec("a")]), "first")
    with pytest.raises(
        PluginError, match=r"^register: the plugin name 'first' is taken; unregister that plugin, or pass"
    ):
        registry.register(Plugin([spec("b")]), "first")


def test_optional_hooks_of_a_later_version_pass() -> None:
    """A hook marked as optional may be unknown."""
    registry = Registry()
    hooks = {"ctxblocks_layers": hookimpl(lambda: [spec("a")])}
    registry.register(module("later", **hooks, ctxblocks_tomorrow=hookimpl(optionalhook=True)(lambda: [])))
    assert list(registry.layers) == ["a"]


@settings(deadline=None)
@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), max_size=6))
def test_registration_agrees_with_a_plain_model(offers: list[set[str]]) -> None:
    """A plugin gets in exactly if all its names are free; and all out again, the registry is empty."""
    registry, owners = Registry(), dict[str, str]()
    for i, names in enumerate(offers):
        plugin = Plugin([spec(name) for name in sorted(names)])
        if names & owners.keys():
            with pytest.raises(PluginError, match="both provide it"):
                registry.register(plugin, str(i))
        else:
            registry.register(plugin, str(i))
            owners.update(dict.fromkeys(names, str(i)))
        assert list(registry.providers.items()) == sorted(owners.items())
    for name in set(owners.values()):
        registry.unregister(name)
    assert snapshot(registry) == ({}, {}, {}, {}, {})
