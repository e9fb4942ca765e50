"""Configurations of the bundled task classes."""

from typing import Any

import attrs

from ctxblocks import ArgumentError


def _at_least(least: float) -> Any:
    def check(instance: Any, attribute: Any, value: Any) -> None:
        if not value >= least:
            raise ArgumentError(f"{type(instance).__name__}: got {attribute.name}={value!r}, needs at least {least}")

    return check


def _share(instance: Any, attribute: Any, value: Any) -> None:
    if not 0 <= value <= 1:
        raise ArgumentError(f"{type(instance).__name__}: got {attribute.name}={value!r}, needs a share from 0 to 1")


@attrs.frozen(kw_only=True)
class TaskConfig:
    """What every class has.

    Attributes:
        inputs: `d`, components of `x`.
        examples: `n`, examples in a prompt.
    """

    inputs: int = attrs.field(default=5, validator=_at_least(1))
    examples: int = attrs.field(default=32, validator=_at_least(1))


@attrs.frozen(kw_only=True)
class NoisyLinearConfig(TaskConfig):
    """`noise`: σ of what is added to the prompt's labels."""

    noise: float = attrs.field(default=0.5, validator=_at_least(0))


@attrs.frozen(kw_only=True)
class SparseLinearConfig(TaskConfig):
    """`nonzero`: weights that are not 0."""

    inputs: int = attrs.field(default=20, validator=_at_least(1))
    nonzero: int = attrs.field(default=3, validator=_at_least(1))


@attrs.frozen(kw_only=True)
class ReluNetworkConfig(TaskConfig):
    """`hidden`: units of the network that is drawn."""

    hidden: int = attrs.field(default=100, validator=_at_least(1))


@attrs.frozen(kw_only=True)
class DecisionTreeConfig(TaskConfig):
    """`depth`: of the tree that is drawn."""

    depth: int = attrs.field(default=4, validator=_at_least(1))


@attrs.frozen(kw_only=True)
class CorruptedConfig(TaskConfig):
    """Another class with false labels.

    Attributes:
        task: the class, one whose functions are of `x` alone.
        share: of the prompt's labels that another task's function gives.
    """

    task: str = "linear"
    share: float = attrs.field(default=0.2, validator=_share)


@attrs.frozen(kw_only=True)
class RecallConfig(TaskConfig):
    """Keys with values, to be found again.

    Attributes:
        examples: pairs in a prompt.
        keys: unit vectors that keys are drawn from.
        queries: prompts with one and the same context, each with a query of its own.
        interleaved: whether key and value are two tokens, `(k, 0)` and then `(0, v)`, or one.
    """

    inputs: int = attrs.field(default=8, validator=_at_least(1))
    examples: int = attrs.field(default=16, validator=_at_least(1))
    keys: int = attrs.field(default=64, validator=_at_least(1))
    queries: int = attrs.field(default=4, validator=_at_least(1))
    interleaved: bool = True

    def __attrs_post_init__(self) -> None:
        """Every key of a prompt is another one."""
        if self.keys < self.examples:
            raise ArgumentError(
                f"RecallConfig: got {self.keys} keys for {self.examples} examples, needs at least as many"
            )
