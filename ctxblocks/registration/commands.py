"""Commands of the command line that plugins provide, found without loading anything else of those plugins."""

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ctxblocks.base.errors import ArgumentError, PluginError
from ctxblocks.base.messages import describe
from ctxblocks.registration.specs import PROJECT, check_name

GROUP = f"{PROJECT}.commands"
"""The entry-point group of modules that announce commands. They are imported for `ctxblocks --help`, and must be light."""


@attrs.frozen(kw_only=True)
class CommandSpec:
    """A command as a plugin announces it from its `ctxblocks_commands` hook.

    Attributes:
        name: how users call it, in lower case with hyphens.
        summary: its line in `ctxblocks --help`.
        function: `"package.module:function"`, imported when the command is called. The function is one that cyclopts can
            call from the command line: its parameters are annotated; what it returns is the exit code, None being 0.
    """

    name: str = attrs.field()
    summary: str
    function: str = attrs.field()

    @name.validator
    def _check_name(self, attribute: Any, value: str) -> None:
        check_name("CommandSpec", value, "trace")

    @function.validator
    def _check_function(self, attribute: Any, value: str) -> None:
        module, _, function = value.partition(":")
        if not module or not function:
            raise ArgumentError(
                f"CommandSpec {self.name!r}: got the function {value!r}, needs 'package.module:function'"
            )

    def load(self) -> Callable[..., Any]:
        """Import the function.

        Raises:
            PluginError: it cannot be imported.
        """
        module, _, name = self.function.partition(":")
        try:
            function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        except Exception as error:  # whatever the import of another author's module raises
            raise PluginError(
                f"command {self.name!r}: {self.function} cannot be imported ({describe(error)})"
            ) from error
        return function


def installed_commands(reserved: Mapping[str, str]) -> tuple[dict[str, CommandSpec], list[str]]:
    """The commands of all plugins that load, by name, and one line about each problem.

    Plugins named in `CTXBLOCKS_BLOCK` are left out.

    Args:
        reserved: names that plugins cannot provide.
    """
    from ctxblocks.registration.plugins import BLOCK, entry_point, installed, load

    blocked = {part.strip() for part in os.environ.get(BLOCK, "").split(",")}
    offered: dict[str, list[tuple[str, CommandSpec]]] = {}
    problems: list[str] = []
    for plugin, entries in installed(GROUP).items():
        if plugin in blocked or entry_point(plugin) in blocked:
            continue
        try:
            specs = load(plugin, entries).commands
        except (Exception, SystemExit) as error:  # one plugin must not break the commands of all others
            problems.append(f"commands of the plugin {plugin!r} are left out: {describe(error)}")
            continue
        for spec in specs:
            offered.setdefault(spec.name, []).append((plugin, spec))
    for name, pairs in offered.items():
        if len(pairs) > 1 or name in reserved:
            providers = [*(["ctxblocks"] if name in reserved else []), *(repr(plugin) for plugin, _ in pairs)]
            problems.append(f"command {name!r} is provided by {' and '.join(providers)}; leave one out with {BLOCK}")
    single = {name: pairs[0][1] for name, pairs in offered.items() if len(pairs) == 1 and name not in reserved}
    return dict(sorted(single.items())), problems
