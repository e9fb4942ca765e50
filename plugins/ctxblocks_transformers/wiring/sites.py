"""The sites of a block where an update can go: what is read there, and how an update is put in place with forward hooks."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from ctxblocks import ContextOperator, ImplicitUpdate, LinearWeights, Read, Solver, implicit_update
from ctxblocks.numerics import widen
from ctxblocks_transformers.wiring.reads import BlockReads
from ctxblocks_transformers.wiring.view import BlockView

NAMES = ("hidden_states", "activations", "x", "inputs", "input")
"""Names of the keyword argument that holds a module's input, by preference."""
EVERY = slice(None)
Replace = Callable[[Tensor], Tensor | None]


class Hooks(contextlib.ExitStack):
    """Forward hooks that are removed when the `with` block ends, whichever way it ends."""

    def before(self, module: nn.Module, replace: Replace) -> None:
        """Call `replace` with the module's first tensor argument; a returned tensor replaces the argument."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            where = _first_argument(args, kwargs)
            new = replace(args[where] if isinstance(where, int) else kwargs[where])
            if new is None:
                return None
            if isinstance(where, int):
                return (*args[:where], new, *args[where + 1 :]), kwargs
            return args, {**kwargs, where: new}

        self.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def after(self, module: nn.Module, replace: Replace) -> None:
        """Call `replace` with the module's first output tensor; a returned tensor replaces the output."""

        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, Tensor):
                return replace(output)
            new = replace(output[0])
            return None if new is None else type(output)((new, *output[1:]))

        self.callback(module.register_forward_hook(hook).remove)

    def arguments(self, module: nn.Module, replace: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> None:
        """Call `replace` with all arguments; if it returns `(args, kwargs)`, they replace the arguments."""
        hook = module.register_forward_pre_hook(lambda _, args, kwargs: replace(args, kwargs), with_kwargs=True)
        self.callback(hook.remove)

    def result(self, module: nn.Module, look: Callable[[Any], None]) -> None:
        """Call `look` with everything that the module returns."""

        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            look(output)

        self.callback(module.register_forward_hook(hook).remove)

    def skip(self, module: nn.Module) -> None:
        """Make the module return its input."""
        own = vars(module).get("forward")  # set on the instance where a model is spread over devices
        module.forward = lambda x, *args, **kwargs: x
        self.callback(delattr, module, "forward") if own is None else self.callback(setattr, module, "forward", own)


@dataclasses.dataclass(frozen=True)
class Site:
    """A block without a site: its layer reads no other token. The subclasses are the sites.

    Attributes:
        block: the block.
        name: `"network"`, `"out-proj"`, or "" where there is none.
        foldable: whether the bias shift can be written into the last dense layer: at most a factor lies between the two.
    """

    block: BlockView
    name: ClassVar[str] = ""
    foldable: ClassVar[bool] = False

    def watch(self, hooks: Hooks, reads: BlockReads, tokens: slice | Tensor = EVERY) -> None:
        """Record the block's reads of some tokens whenever the model is called."""

        def entered(x: Tensor) -> None:
            reads.entered = picked(by_token(x), tokens)

        def simple(output: Any) -> None:
            width = None if reads.entered is None else reads.entered.shape[-1]
            reads.simple = isinstance(output, Tensor) and output.shape[-1] == width

        hooks.before(self.block.layer, entered)
        if self.block.spec.network:
            hooks.result(self.block.modules[self.block.spec.network], simple)

    def put(self, hooks: Hooks, update: ImplicitUpdate) -> None:
        """Apply an update whenever the model is called."""
        self.complete(hooks, lambda _: update)

    def complete(self, hooks: Hooks, make: Callable[[BlockReads], ImplicitUpdate]) -> None:
        """Whenever the model is called, make an update from the block's reads, and apply it in the same pass."""

    def read(self, reads: BlockReads) -> Read:
        """The reads as the theorem takes them, half types in float32."""
        assert reads.z is not None
        return Read(widen(reads.z), None if reads.bypass is None else widen(reads.bypass))

    def update(self, base: BlockReads, full: BlockReads, solver: Solver) -> ImplicitUpdate:
        """The update that maps the reads without the context to those with it [Thm. 2.2, Thm. B.2]."""
        return self.update_of(self.read(base), self.read(full), solver, per_token=True)

    def update_of(self, base: Read, full: Read, solver: Solver, per_token: bool) -> ImplicitUpdate:
        """The same from reads as the theorem takes them."""
        rows = "token" if per_token else "prefix"
        operator, shift = implicit_update(base, full, solver, name=self.block.path, rows=rows, module=self.block.layer)
        return ImplicitUpdate(operator, shift, self.name, per_token=per_token)  # type: ignore[arg-type]

    def readers(self) -> dict[str, LinearWeights]:
        """The weights that read the site's input, by path in the layer."""
        return {}

    def changed(self) -> dict[str, LinearWeights]:
        """The weights that take the operator, by path in the layer."""
        return self.readers()

    def formulas(self) -> tuple[str, str]:
        """The weight update and the bias shift in words."""
        return "ΔW = 0: the layer reads no other token", "none"

    @property
    def shift_module(self) -> nn.Module:
        """The module to whose output the bias shift is added."""
        spec = self.block.spec
        return self.block.modules[spec.inner] if spec.inner else self.block.layer

    @property
    def bias_path(self) -> str:
        """The dense layer whose bias can take the bias shift, "" where there is none."""
        return ""


class NetworkSite(Site):
    """The dense layers of a block's network that read `z`; the residual stream `r` bypasses them."""

    name = "network"

    def watch(self, hooks: Hooks, reads: BlockReads, tokens: slice | Tensor = EVERY) -> None:
        """Record the layer's input, `z` and the residual stream."""
        super().watch(hooks, reads, tokens)
        self.watch_bypass(hooks, reads, tokens)

        def read(x: Tensor) -> None:
            reads.z = picked(x, tokens)

        self.at_entry(hooks, read)

    def complete(self, hooks: Hooks, make: Callable[[BlockReads], ImplicitUpdate]) -> None:
        """Make the update when `z` is known, apply its operator there, and add its shift further on."""
        base = BlockReads()
        made: list[ImplicitUpdate] = []
        self.watch_bypass(hooks, base)

        def enter(x: Tensor) -> Tensor:
            base.z = rows(x)
            made[:] = [make(base)]
            return patched(x, made[0].operator)

        self.at_entry(hooks, enter)
        hooks.after(self.shift_module, lambda x: shifted(x, made[0].shift))

    def watch_bypass(self, hooks: Hooks, reads: BlockReads, tokens: slice | Tensor = EVERY) -> None:
        """Record the residual stream before the network is called."""
        spec = self.block.spec

        def bypass(x: Tensor) -> None:
            reads.bypass = picked(x, tokens) * self.block.gain if spec.gain else picked(x, tokens)

        hooks.before(self.block.modules[spec.bypass or spec.network], bypass)

    def at_entry(self, hooks: Hooks, replace: Replace) -> None:
        """Call `replace` with `z`; a returned tensor replaces it."""
        spec = self.block.spec
        if spec.source:
            hooks.after(self.block.modules[spec.source], replace)
        else:
            hooks.before(self.block.modules[spec.network], replace)

    def readers(self) -> dict[str, LinearWeights]:
        """The dense layers that read `z`, by path in the layer."""
        return self.block.weights(*self.block.spec.readers)

    def formulas(self) -> tuple[str, str]:
        """The weight update and the bias shift in words."""
        update = "ΔW = (W δ) kᵀ for every reader W, δ = z_C − z, k = z / ‖z‖²"
        return update, f"Δb' = r_C − r, added to {self.shift_place}"

    @property
    def shift_place(self) -> str:
        """Where the bias shift is added, in words."""
        branch = self.block.spec.branch
        return f"the layer's output, after {branch}" if branch else "the layer's output"


def rows(x: Tensor) -> Tensor:  # (…, d) -> (tokens, d)
    """One row for each token."""
    return x.reshape(-1, x.shape[-1])


def by_token(x: Tensor) -> Tensor:  # (1, tokens, …, d) or (…, 1, tokens, d) -> (tokens, …)
    """One row for each token, which holds all residual streams of a layer that has several, wherever their axis is."""
    if x.dim() < 4 or 1 not in x.shape[:-2]:
        return rows(x)
    return x.movedim(x.shape.index(1) + 1, 0).flatten(1)


def shifted(
    x: Tensor,  # (…, d)
    shift: Tensor | None,  # (tokens, d)
) -> Tensor:  # (…, d)
    """`x + shift`, rounded once."""
    return x if shift is None else (widen(rows(x)) + shift.to(x.device)).to(x.dtype).reshape(x.shape)


def patched(
    x: Tensor,  # (…, d)
    operator: ContextOperator,  # (tokens, d)
) -> Tensor:  # (…, d)
    """`P x`, one row for each token, rounded once."""
    if operator.key.device != x.device:
        parts = (operator.direction, operator.key, operator.offset)
        operator = ContextOperator(*(None if part is None else part.to(x.device) for part in parts))  # type: ignore[arg-type]
    return operator.apply(widen(rows(x))).to(x.dtype).reshape(x.shape)


def picked(x: Tensor, tokens: slice | Tensor) -> Tensor:
    """A copy of the rows of some tokens."""
    every = rows(x)
    return every[tokens].clone() if isinstance(tokens, slice) else every[tokens.to(x.device)]


def _first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str:
    """The index or the name of the first floating-point tensor."""
    for index, value in enumerate(args):
        if isinstance(value, Tensor) and value.is_floating_point():
            return index
    tensors = [name for name, value in kwargs.items() if isinstance(value, Tensor) and value.is_floating_point()]
    return next((name for name in NAMES if name in tensors), tensors[0])
