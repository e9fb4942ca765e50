"""Numbers of tasks and seeds: those of numpy count as Python's, and what is out of range is refused by name."""

from typing import Any

import numpy as np
import pytest
import torch

from ctxblocks import ArgumentError, registry, verify
from ctxblocks.bench import BenchConfig
from ctxblocks.comparison import compare_config
from ctxblocks.experiments import preset
from ctxblocks.validators import seed_of

NAMES = tuple(registry().tasks)
WRONG = (2**64, -1, 1.5, True, "3", None, float("nan"))


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_numpy_draw_the_same_prompts(name: str) -> None:
    """In configuration, number of tasks and seed, up to the largest seed of all."""
    spec = registry().task(name)
    mine = spec.sample(spec.config(inputs=3, examples=4), 5, 2**64 - 1)
    theirs = spec.sample(spec.config(inputs=np.int64(3), examples=np.int32(4)), np.int64(5), np.uint64(2**64 - 1))
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_every_task_refuses_what_is_no_seed(name: str, wrong: Any) -> None:
    """The message names the seed and the range."""
    spec = registry().task(name)
    with pytest.raises(ArgumentError, match=r"^seed: got .*, needs an integer from 0 to 2\*\*64 - 1$"):
        spec.sample(spec.config(), 2, wrong)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [2.5, True, "3", None, 0], ids=repr)
def test_every_task_refuses_sizes_that_are_no_counts(name: str, wrong: Any) -> None:
    """In the configuration, and as the number of tasks, of which there may be none."""
    spec = registry().task(name)
    with pytest.raises(ArgumentError, match=rf"Config: got inputs={wrong!r}, needs"):
        spec.config(inputs=wrong)
    if wrong != 0:
        with pytest.raises(ArgumentError, match=r"^tasks: got .*, needs an integer ≥ 0$"):
            spec.sample(spec.config(), wrong, 0)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_runs_refuse_what_is_no_seed(wrong: Any) -> None:
    """`verify` and the settings of benchmarks, comparisons and reproductions, before anything is computed."""
    for call in (
        lambda: seed_of(wrong),
        lambda: verify(["gru"], seed=wrong),
        lambda: BenchConfig(seed=wrong),
        lambda: preset("quick", seed=wrong),
        *([lambda: compare_config("quick", ("gru",), seed=wrong)] if wrong is not None else []),
    ):
        with pytest.raises(ArgumentError, match=r"^seed: got "):
            call()


def test_settings_hold_plain_integers() -> None:
    """A seed or size of numpy ends in the run's file, and in derived seeds, as the same integer of Python."""
    made = compare_config("quick", ("gru",), seed=np.int64(3), width=np.int32(8))
    assert (type(made.seed), type(made.width)) == (int, int)
    assert type(preset("quick", seed=np.int64(3)).seed) is int
    assert type(BenchConfig(seed=np.int64(3), chunk=np.int64(7)).chunk) is int
