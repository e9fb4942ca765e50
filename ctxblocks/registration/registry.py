"""The registry: all layers, the plugins that provide them, and the plugins that failed."""

import os
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ctxblocks.base.errors import PluginError, UnknownLayerError
from ctxblocks.base.messages import closest, describe, listed
from ctxblocks.registration.catalogue import Catalogue
from ctxblocks.registration.commands import GROUP
from ctxblocks.registration.isolation import PASSED, plugin_code
from ctxblocks.registration.plugins import BLOCK, Offers, bears, blocked, installed, load, offers, only_offers, read
from ctxblocks.registration.specs import LayerSpec, check_options

if TYPE_CHECKING:
    from ctxblocks.blocks.layer import ContextualLayer


class Registry(Catalogue):
    """Layers by name, from plugins that are installed or registered by hand.

    A plugin that fails is listed in `failures` with its cause, and a layer name that two installed plugins provide is listed
    in `clashes`; all others work. `ctxblocks.registry()` returns the one that a process shares.
    """

    def __init__(self) -> None:
        super().__init__()
        self._failures: dict[str, BaseException] = {}
        self._blocked: tuple[str, ...] = ()

    @property
    def layers(self) -> Mapping[str, LayerSpec]:
        """Every layer that exactly one plugin provides, by name, sorted and read-only."""
        return only_offers(self._offers())

    @property
    def providers(self) -> Mapping[str, str]:
        """The plugin of every layer in `layers`, by the layer's name."""
        offers = self._offers()
        return MappingProxyType({name: pairs[0][0] for name, pairs in offers.items() if len(pairs) == 1})

    @property
    def clashes(self) -> Mapping[str, tuple[str, ...]]:
        """The plugins that provide the same layer name, by that name."""
        offers = self._offers()
        return MappingProxyType({name: tuple(p for p, _ in pairs) for name, pairs in offers.items() if len(pairs) > 1})

    @property
    def plugins(self) -> Mapping[str, object]:
        """Every plugin that loaded, by name: the module or object that holds its hooks."""
        return MappingProxyType({name: plugin.source for name, plugin in sorted(self._plugins.items())})

    @property
    def failures(self) -> Mapping[str, BaseException]:
        """The installed plugins that did not load, by name, with the error of their import or their hooks."""
        return MappingProxyType(self._failures)

    @property
    def blocked(self) -> tuple[str, ...]:
        """The installed plugins that `CTXBLOCKS_BLOCK` leaves out."""
        return self._blocked

    def load_installed(self, block: str = "") -> None:
        """Load every plugin of the entry-point group, except those named in `block`, separated by commas.

        Raises:
            PluginError: `block` names a plugin that is not installed.
        """
        entries = installed()
        self._blocked = blocked(block, tuple(sorted({*entries, *installed(GROUP)})))
        for name in [name for name in entries if name not in self._blocked]:
            try:
                self._plugins[name] = load(name, entries[name])
            except PASSED:
                raise
            except BaseException as error:  # kept with its cause: one plugin must not break the others
                self._failures[name] = error

    def register(self, plugin: object, name: str | None = None) -> str:
        """Add a plugin that is not installed, for this process: a module, or any object with hooks.

        Args:
            plugin: holds the functions marked with `ctxblocks.hookimpl`.
            name: of the plugin; by default its `__name__` or that of its class.

        Returns:
            The plugin's name.

        Raises:
            PluginError: the name is taken, a hook is wrong or raised, or another plugin provides one of its layers. The
                registry is then unchanged.
        """
        if name is None:
            name = str(getattr(plugin, "__name__", type(plugin).__qualname__))
        if name in self._plugins or name in self._failures:
            raise PluginError(
                f"register: the plugin name {name!r} is taken; unregister that plugin, or pass another name=…"
            )
        try:
            with plugin_code():
                added = read(name, plugin)
        except (PluginError, *PASSED):
            raise
        except BaseException as error:
            raise PluginError(f"register: a hook of plugin {name!r} raised {describe(error)}") from error
        offers = self._offers()
        for spec in added.layers:
            if spec.name in offers:
                raise PluginError(_clash(spec.name, (name, *(other for other, _ in offers[spec.name]))))
        self._plugins[name] = added
        return name

    def unregister(self, plugin: object) -> None:
        """Remove a plugin, by its name or by the object that was registered.

        Raises:
            PluginError: no such plugin is loaded.
        """
        names = [name for name, known in self._plugins.items() if plugin == name or plugin is known.source]
        if not names:
            raise PluginError(
                f"unregister: got {plugin!r}, needs one of the loaded plugins: {listed(sorted(self._plugins))}"
            )
        for name in names:
            del self._plugins[name]

    def layer(self, name: str) -> LayerSpec:
        """The layer of that name.

        Raises:
            UnknownLayerError: no plugin provides it; the message lists known names and failed plugins.
            PluginError: two plugins provide it, or the plugin of its name failed, whose error is then the cause.
        """
        offered = self._offers().get(name, [])
        if len(offered) == 1:
            spec: LayerSpec = offered[0][1]
            return spec
        if offered:
            raise PluginError(_clash(name, tuple(plugin for plugin, _ in offered)))
        for plugin, error in self._failures.items():
            if bears(plugin, name):
                raise PluginError(
                    f"layer {name!r}: the plugin {plugin!r} failed to load with {describe(error)}"
                ) from error
        known = self.layers
        failed = "".join(f"; the plugin {plugin!r} failed with {describe(e)}" for plugin, e in self._failures.items())
        raise UnknownLayerError(f"layer: got {name!r}, needs one of {listed(known)}{closest(name, known)}{failed}")

    def create(self, name: str, /, **options: Any) -> "ContextualLayer":
        """Build a layer by its name, see `ctxblocks.create`."""
        from ctxblocks.blocks.layer import ContextualLayer

        spec = self.layer(name)
        check_options(spec, options)
        layer = spec.build(spec.config(**options))
        if not isinstance(layer, ContextualLayer):
            raise PluginError(
                f"layer {name!r}: build of the plugin {self.providers[name]!r} returned {type(layer).__name__}, "
                f"needs a ctxblocks.ContextualLayer"
            )
        return layer

    def _offers(self) -> Offers:
        """All layers with their providers: `(plugin, spec)` pairs by layer name, both sorted."""
        return offers(self._plugins, "layers", lambda spec: (spec.name,))


_shared: Registry | None = None
_loading = False
_lock = threading.RLock()


def registry() -> Registry:
    """The registry of this process; the first call loads every installed plugin.

    Raises:
        PluginError: `CTXBLOCKS_BLOCK` names a plugin that is not installed, or a plugin calls this while it is being
            imported.
    """
    global _shared, _loading
    with _lock:
        if _loading:
            raise PluginError(
                "registry: called while plugins are being loaded; ask for it inside a function, not on import"
            )
        if _shared is None:
            _loading = True
            try:
                fresh = Registry()
                fresh.load_installed(os.environ.get(BLOCK, ""))
                _shared = fresh
            finally:
                _loading = False
        return _shared


def create(name: str, /, **options: Any) -> "ContextualLayer":
    """Build a layer by its name: first its configuration from the keywords, then the layer.

    Args:
        name: one of `registry().layers`.
        options: the fields of the layer's configuration, `width` at least.

    Raises:
        UnknownLayerError: no plugin provides the layer.
        ArgumentError: an option is unknown or missing; errors of the configuration itself propagate.
        PluginError: the plugin failed, or two plugins provide the name.
    """
    return registry().create(name, **options)


def _clash(layer: str, plugins: tuple[str, ...]) -> str:
    names = " and ".join(repr(plugin) for plugin in sorted(plugins))
    return f"layer {layer!r}: the plugins {names} both provide it, and neither gets it; leave one out with {BLOCK}"
