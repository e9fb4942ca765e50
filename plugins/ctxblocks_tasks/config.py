"""Configurations of the bundled task classes."""

import attrs

from ctxblocks import ArgumentError
from ctxblocks.validators import at_least, share

_COUNT = at_least(1, by_class=True)


@attrs.frozen(kw_only=True)
class TaskConfig:
    """What every class has.

    Attributes:
        inputs: `d`, components of `x`.
        examples: `n`, examples in a prompt.
    """

    inputs: int = attrs.field(default=5, validator=_COUNT)
    examples: int = attrs.field(default=32, validator=_COUNT)


@attrs.frozen(kw_only=True)
class NoisyLinearConfig(TaskConfig):
    """`noise`: σ of what is added to the prompt's labels."""

    noise: float = attrs.field(default=0.5, validator=at_least(0, by_class=True))


@attrs.frozen(kw_only=True)
class SparseLinearConfig(TaskConfig):
    """`nonzero`: weights that are not 0."""

    inputs: int = attrs.field(default=20, validator=_COUNT)
    nonzero: int = attrs.field(default=3, validator=_COUNT)


@attrs.frozen(kw_only=True)
class ReluNetworkConfig(TaskConfig):
    """`hidden`: units of the network that is drawn."""

    hidden: int = attrs.field(default=100, validator=_COUNT)


@attrs.frozen(kw_only=True)
class DecisionTreeConfig(TaskConfig):
    """`depth`: of the tree that is drawn."""

    depth: int = attrs.field(default=4, validator=_COUNT)


@attrs.frozen(kw_only=True)
class CorruptedConfig(TaskConfig):
    """Another class with false labels.

    Attributes:
        task: the class, one whose functions are of `x` alone.
        share: of the prompt's labels that another task's function gives.
    """

    task: str = "linear"
    share: float = attrs.field(default=0.2, validator=share(by_class=True))


@attrs.frozen(kw_only=True)
class RecallConfig(TaskConfig):
    """Keys with values, to be found again.

    Attributes:
        examples: pairs in a prompt.
        keys: unit vectors that keys are drawn from.
        queries: prompts with one and the same context, each with a query of its own.
        interleaved: whether key and value are two tokens, `(k, 0)` and then `(0, v)`, or one.
    """

    inputs: int = attrs.field(default=8, validator=_COUNT)
    examples: int = attrs.field(default=16, validator=_COUNT)
    keys: int = attrs.field(default=64, validator=_COUNT)
    queries: int = attrs.field(default=4, validator=_COUNT)
    interleaved: bool = True

    def __attrs_post_init__(self) -> None:
        """Every key of a prompt is another one."""
        if self.keys < self.examples:
            raise ArgumentError(
                f"RecallConfig: got {self.keys} keys for {self.examples} examples, needs at least as many"
            )
