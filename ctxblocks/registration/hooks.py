"""The hooks that a plugin may implement.

A plugin is a module with at least one function that bears the name of a hook and the marker `hookimpl`:

    from ctxblocks import LayerSpec, hookimpl

    @hookimpl
    def ctxblocks_layers() -> list[LayerSpec]:
        return [LayerSpec(name="ema", summary="An exponential moving average.", config=EmaConfig, build=Ema)]

A distribution announces the module in its `pyproject.toml`, and its users only have to install it:

    [project.entry-points.ctxblocks]
    ema = "my_package"

Without a distribution, `ctxblocks.registry().register(module)` adds it to the running process.

Hooks are plural nouns, take no argument and return a list of value objects. They are called once, when the plugin is
loaded, and nothing is loaded before the first `registry()`, `create(…)` or `ctxblocks layers`. A hook should be cheap:
what it returns describes how to build a layer, and builds none.
"""

from ctxblocks.registration.commands import CommandSpec
from ctxblocks.registration.families import FamilySpec
from ctxblocks.registration.observers import ObserverSpec
from ctxblocks.registration.probes import Probe
from ctxblocks.registration.sections import SectionSpec
from ctxblocks.registration.specs import LayerSpec, hookspec
from ctxblocks.registration.tasks import TaskSpec


@hookspec
def ctxblocks_layers() -> list[LayerSpec]:  # type: ignore[empty-body]
    """The contextual layers of this plugin.

    Every name must be free: two plugins that provide one name are an error that names both, and neither gets it.
    """


@hookspec
def ctxblocks_families() -> list[FamilySpec]:  # type: ignore[empty-body]
    """How the language models of a library wire their blocks, for `ctxblocks_transformers.transfer_model` and similar.

    Every model type in `models` must be free: requesting one that two plugins provide is an error that names both.
    """


@hookspec
def ctxblocks_probes() -> list[Probe]:  # type: ignore[empty-body]
    """The probes of this plugin: named measurements of a sequence of updates.

    Every name must be free: requesting one that two plugins provide is an error that names both.
    """


@hookspec
def ctxblocks_tasks() -> list[TaskSpec]:  # type: ignore[empty-body]
    """The task classes of this plugin: functions that are learned in context, with their baselines.

    Every name must be free: requesting one that two plugins provide is an error that names both.
    """


@hookspec
def ctxblocks_observers() -> list[ObserverSpec]:  # type: ignore[empty-body]
    """The observers of this plugin, notified of the events of a run as they happen.

    Every name must be free: requesting one that two plugins provide is an error that names both.
    """


@hookspec
def ctxblocks_sections() -> list[SectionSpec]:  # type: ignore[empty-body]
    """The kinds of runs of this plugin, and how each becomes a section of the page that `ctxblocks report` writes.

    Every kind must be free: requesting one that two plugins provide is an error that names both.
    """


@hookspec
def ctxblocks_commands() -> list[CommandSpec]:  # type: ignore[empty-body]
    """The commands that this plugin adds to `ctxblocks`, from a module announced in the group `ctxblocks.commands`:

        [project.entry-points."ctxblocks.commands"]
        ema = "my_package.commands"

    That module is imported for `ctxblocks --help`, so it must import nothing heavy, such as torch or numpy.
    """
