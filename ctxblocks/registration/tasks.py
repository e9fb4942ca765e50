"""Task classes: functions that are learned from the examples in a prompt, and statistical baselines on the same examples."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from ctxblocks.base.errors import ArgumentError
from ctxblocks.registration.specs import check_name
from ctxblocks.validators import integer_at_least, seed_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


class Prompts(NamedTuple):
    """A batch of tasks, one prompt each.

    Attributes:
        query: `(x_q, 0)`, `(tasks, d + 1)`.
        context: `(x_j, f(x_j))`, `(tasks, n, d + 1)`.
        target: `f(x_q)`, `(tasks,)`.
    """

    query: "Tensor"
    context: "Tensor"
    target: "Tensor"

    def to(self, device: str, dtype: "torch.dtype") -> "Prompts":
        """The same prompts on another device and in another dtype."""
        return Prompts(*(tensor.to(device, dtype) for tensor in self))

    def other_contexts(self) -> "Prompts":
        """Every query with the context of the preceding task: the control of a wrong task."""
        return Prompts(self.query, self.context.roll(1, dims=0), self.target)


Sample = Callable[[Any, int, int], Prompts]


def _checked(sample: Sample) -> Sample:
    """The function with its number of tasks and its seed checked, numpy's integers among them as `int`."""

    @functools.wraps(sample)
    def checked(config: Any, tasks: int, seed: int) -> Prompts:
        integer_at_least(0).check("tasks", tasks)
        return sample(config, int(tasks), seed_of(seed))

    return checked


Baseline = Callable[[Prompts], "NDArray[np.float64]"]
"""Predictions at the query from the first `i` context tokens, `i = 0 … n`: `(tasks, n + 1)`."""


@attrs.frozen(kw_only=True)
class TaskSpec:
    """A class of functions as a plugin announces it from its `ctxblocks_tasks` hook.

    Attributes:
        name: how users refer to it, in lower case with hyphens.
        summary: one line, with the distribution.
        config: a frozen attrs class whose fields all have defaults, among them `inputs` (d) and `examples`.
        sample: `sample(config, tasks, seed)` draws `Prompts` in float64 on the CPU; the same seed gives the same prompts.
            `tasks` and `seed` are checked before it is called.
        baselines: `baselines(config)` returns predictors by name, the most relevant ones for this class first.
    """

    name: str = attrs.field()
    summary: str
    config: type[Any] = attrs.field()
    sample: Sample = attrs.field(converter=_checked)
    baselines: Callable[[Any], Mapping[str, Baseline]]

    @name.validator
    def _check_name(self, attribute: Any, value: str) -> None:
        check_name("TaskSpec", value, "sparse-linear")

    @config.validator
    def _check_config(self, attribute: Any, value: Any) -> None:
        fields = attrs.fields_dict(value) if isinstance(value, type) and attrs.has(value) else {}
        open_ = [name for name, field in fields.items() if field.default is attrs.NOTHING]
        if "inputs" not in fields or "examples" not in fields or open_:
            raise ArgumentError(
                f"TaskSpec {self.name!r}: got config {value!r}, needs a frozen attrs class with fields 'inputs' and "
                f"'examples' and a default for every field"
            )
