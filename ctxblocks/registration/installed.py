"""The commands of installed plugins, found without loading anything else of those plugins."""

import os
from collections.abc import Mapping

from ctxblocks.base.messages import describe
from ctxblocks.registration.commands import GROUP, CommandSpec
from ctxblocks.registration.isolation import PASSED
from ctxblocks.registration.plugins import BLOCK, entry_point, installed, load


def installed_commands(reserved: Mapping[str, str]) -> tuple[dict[str, CommandSpec], list[str]]:
    """The commands of all plugins that load, by name, and one line about each problem.

    Plugins named in `CTXBLOCKS_BLOCK` are left out.

    Args:
        reserved: names that plugins cannot provide.
    """
    blocked = {part.strip() for part in os.environ.get(BLOCK, "").split(",")}
    offered: dict[str, list[tuple[str, CommandSpec]]] = {}
    problems: list[str] = []
    for plugin, entries in installed(GROUP).items():
        if plugin in blocked or entry_point(plugin) in blocked:
            continue
        try:
            specs = load(plugin, entries).commands
        except PASSED:
            raise
        except BaseException as error:  # one plugin must not break the commands of all others
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
