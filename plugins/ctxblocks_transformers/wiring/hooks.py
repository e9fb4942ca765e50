"""Looking at what modules are given and put out, and changing it, without leaving a trace in them."""

import contextlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

NAMES = ("hidden_states", "activations", "x", "inputs", "input")
Change = Callable[[Tensor], Tensor | None]


class Hooks(contextlib.ExitStack):
    """Hooks that are gone when the `with` block ends, however it ends."""

    def before(self, module: nn.Module, change: Change) -> None:
        """Call `change` with the module's first tensor argument; what it returns takes its place."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            where = _first_argument(args, kwargs)
            value = args[where] if isinstance(where, int) else kwargs[where]
            changed = change(value)
            if changed is None:
                return None
            if isinstance(where, int):
                return (*args[:where], changed, *args[where + 1 :]), kwargs
            return args, {**kwargs, where: changed}

        self.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def after(self, module: nn.Module, change: Change) -> None:
        """Call `change` with the first tensor that the module puts out; what it returns takes its place."""

        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, Tensor):
                return change(output)
            changed = change(output[0])
            return None if changed is None else type(output)((changed, *output[1:]))

        self.callback(module.register_forward_hook(hook).remove)

    def arguments(self, module: nn.Module, change: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> None:
        """Call `change` with all arguments; what it returns, `(args, kwargs)` or None, takes their place."""
        hook = module.register_forward_pre_hook(lambda _, args, kwargs: change(args, kwargs), with_kwargs=True)
        self.callback(hook.remove)

    def result(self, module: nn.Module, look: Callable[[Any], None]) -> None:
        """Call `look` with all that the module returns."""

        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            look(output)

        self.callback(module.register_forward_hook(hook).remove)


def rows(x: Tensor) -> Tensor:  # (…, d) -> (tokens, d)
    """One row for each token."""
    return x.reshape(-1, x.shape[-1])


def _first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str:
    for index, value in enumerate(args):
        if isinstance(value, Tensor) and value.is_floating_point():
            return index
    tensors = [name for name, value in kwargs.items() if isinstance(value, Tensor) and value.is_floating_point()]
    for name in NAMES:
        if name in tensors:
            return name
    return tensors[0]
