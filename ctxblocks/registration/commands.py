"""Commands of the command line as plugins announce them."""

import importlib
from collections.abc import Callable
from typing import Any

import attrs

from ctxblocks.base.errors import ArgumentError, PluginError
from ctxblocks.base.messages import describe
from ctxblocks.registration.isolation import PASSED, plugin_code
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
            with plugin_code():
                function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        except PASSED:
            raise
        except BaseException as error:  # whatever the import of another author's module raises
            raise PluginError(
                f"command {self.name!r}: {self.function} cannot be imported ({describe(error)})"
            ) from error
        return function
