"""Configurations of the bundled task classes."""

import attrs
from attrs.validators import and_

from ctxblocks import ArgumentError
from ctxblocks.validators import at_least, integer_at_least, plain_integer, share

_COUNT = and_(at_least(1, by_class=True), integer_at_least(1, by_class=True))


@attrs.frozen(kw_only=True)
class TaskConfig:
    """The settings that all task classes share.

    Attributes:
        inputs: `d`, the dimension of `x`.
        examples: `n`, the number of examples in a prompt.
    """

    inputs: int = attrs.field(default=5, converter=plain_integer, validator=_COUNT)
    examples: int = attrs.field(default=32, converter=plain_integer, validator=_COUNT)


@attrs.frozen(kw_only=True)
class NoisyLinearConfig(TaskConfig):
    """Linear functions with noisy labels; `noise` is the standard deviation σ of the noise."""

    noise: float = attrs.field(default=0.5, validator=at_least(0, by_class=True))


@attrs.frozen(kw_only=True)
class SparseLinearConfig(TaskConfig):
    """Sparse linear functions; `nonzero` is the number of weights that are not 0."""

    inputs: int = attrs.field(default=20, converter=plain_integer, validator=_COUNT)
    nonzero: int = attrs.field(default=3, converter=plain_integer, validator=_COUNT)


@attrs.frozen(kw_only=True)
class ReluNetworkConfig(TaskConfig):
    """ReLU networks with one hidden layer of `hidden` units."""

    hidden: int = attrs.field(default=100, converter=plain_integer, validator=_COUNT)


@attrs.frozen(kw_only=True)
class DecisionTreeConfig(TaskConfig):
    """Binary decision trees of the given `depth`."""

    depth: int = attrs.field(default=4, converter=plain_integer, validator=_COUNT)


@attrs.frozen(kw_only=True)
class CorruptedConfig(TaskConfig):
    """Another class, some of whose labels come from a different task.

    Attributes:
        task: name of the class; one whose labels are functions of `x` without noise.
        share: expected share of the labels in a prompt that come from the different task.
    """

    task: str = "linear"
    share: float = attrs.field(default=0.2, validator=share(by_class=True))


@attrs.frozen(kw_only=True)
class RecallConfig(TaskConfig):
    """Key-value pairs, of which one value is to be recalled by its key.

    Attributes:
        examples: number of pairs in a prompt.
        keys: number of unit vectors that keys are drawn from.
        queries: number of prompts that share a context but not the query.
        interleaved: whether a pair is two tokens, `(k, 0)` and then `(0, v)`, or one token `(k, v)`.
    """

    inputs: int = attrs.field(default=8, converter=plain_integer, validator=_COUNT)
    examples: int = attrs.field(default=16, converter=plain_integer, validator=_COUNT)
    keys: int = attrs.field(default=64, converter=plain_integer, validator=_COUNT)
    queries: int = attrs.field(default=4, converter=plain_integer, validator=_COUNT)
    interleaved: bool = True

    def __attrs_post_init__(self) -> None:
        """The keys of a prompt must be distinct."""
        if self.keys < self.examples:
            raise ArgumentError(
                f"RecallConfig: got {self.keys} keys for {self.examples} examples, needs at least as many"
            )
