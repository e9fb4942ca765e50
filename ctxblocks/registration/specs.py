"""The markers of hooks, and the specification of a layer."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.messages import closest, listed

if TYPE_CHECKING:
    from torch import Tensor

PROJECT = "ctxblocks"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


def check_name(kind: str, name: str, example: str) -> None:
    """Raise unless a name is in lower case with hyphens."""
    if not name or name != name.lower() or any(c.isspace() or c == "_" for c in name):
        raise ArgumentError(f"{kind}: got the name {name!r}, needs lower case with hyphens, such as {example!r}")


@attrs.frozen(kw_only=True)
class Traits:
    """Claims about a layer; each one enables a test of the conformance suite.

    Attributes:
        permutation_invariant: no permutation of the context changes the output.
        additive: `δ(C₁C₂) = δ(C₁) + δ(C₂)`: the context vectors of two segments add up.
        windowed: a number `w`: the output depends on the last `w` context tokens only; None makes no claim.
        positional: some permutation of some context changes the output.
    """

    permutation_invariant: bool = False
    additive: bool = False
    windowed: int | None = None
    positional: bool = False


def _as_tuple(examples: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(examples)


def _no_claims(config: Any) -> Traits:
    return Traits()


def _takes_width(config: Any) -> bool:
    return isinstance(config, type) and attrs.has(config) and "width" in attrs.fields_dict(config)


@attrs.frozen(kw_only=True)
class LayerSpec:
    """A layer as a plugin announces it from its `ctxblocks_layers` hook.

    Attributes:
        name: how users refer to it, in lower case with hyphens.
        summary: one line.
        config: a frozen attrs class with at least `width`; every other field has a default.
        build: `build(config)` returns the `ContextualLayer`, in the default dtype.
        examples: the configurations that the conformance suite tests; by default one of width 4.
        traits: `traits(config)` returns the claims that hold for that configuration; by default none.
        reference: `reference(layer)` returns another library's implementation of `layer.sequence` with the same weights,
            a function of tokens `(batch, n, d)`, with which `ctxblocks bench` compares it; None where there is none.
            It imports that library itself, and its ImportError is reported as "not installed".
        benchmarks: the variants that `ctxblocks bench` measures: for each, the options of `config` other than the width.
    """

    name: str = attrs.field()
    summary: str
    build: Callable[[Any], Any]
    config: type[Any]
    examples: tuple[Any, ...] = attrs.field(converter=_as_tuple, factory=tuple)
    traits: Callable[[Any], Traits] = _no_claims
    reference: "Callable[[Any], Callable[[Tensor], Tensor]] | None" = None
    benchmarks: tuple[Mapping[str, Any], ...] = attrs.field(converter=_as_tuple, default=({},))

    @name.validator
    def _check_name(self, attribute: Any, value: str) -> None:
        check_name("LayerSpec", value, "self-attention")

    def __attrs_post_init__(self) -> None:
        """Check the configuration class, and fall back to one example of width 4."""
        if not _takes_width(self.config):
            raise ArgumentError(
                f"LayerSpec {self.name!r}: got config {self.config!r}, needs a frozen attrs class with a field 'width'"
            )
        if not self.examples:
            object.__setattr__(self, "examples", (self.config(width=4),))


def check_options(spec: LayerSpec, options: Mapping[str, Any]) -> None:
    """Raise unless the options of a layer's configuration are known, and those without a default given."""
    fields = {field.alias: field for field in attrs.fields(spec.config) if field.init}
    known = f"the options of layer {spec.name!r} are {listed(fields)}"
    for option in options:
        if option not in fields:
            raise ArgumentError(
                f"create: layer {spec.name!r} has no option {option!r}{closest(option, fields)}; {known}"
            )
    for option, field in fields.items():
        if field.default is attrs.NOTHING and option not in options:
            raise ArgumentError(f"create: layer {spec.name!r} needs the option {option!r}; pass {option}=…; {known}")
