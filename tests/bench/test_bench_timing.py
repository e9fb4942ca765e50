"""Statistics, interleaved repeats, foreign load and budgets, with simulated clocks."""

import pytest
from bench_fakes import World

from ctxblocks.bench.budget import Budget, estimate, loop_estimate, trial_lengths
from ctxblocks.bench.load import LEAST, Load, Usage, between, read_usage, share_of
from ctxblocks.bench.statistics import exponent, overall_exponent, timing
from ctxblocks.bench.timing import Timed


def test_quartiles_are_interpolated() -> None:
    """Of five values they are the second, third and fourth; of one value, that value."""
    for seconds, expected in (([5, 1, 4, 2, 3], (2, 3, 4)), ([1, 2], (1.25, 1.5, 1.75)), ([7], (7, 7, 7))):
        summary = timing(seconds, 1, 0.0)
        assert (summary.lower, summary.median, summary.upper) == expected
        assert type(summary.median) is float  # JSON's own type


def test_an_exponent_is_that_of_the_power_law() -> None:
    """It depends only on the shortest and the longest length; one length has none."""
    assert exponent((4, 1.0), (16, 8.0)) == pytest.approx(1.5)
    assert overall_exponent({1024: 1.0, 4096: 100.0, 16384: 256.0}) == pytest.approx(2)
    assert overall_exponent({16384: 16.0, 1024: 1.0}) == pytest.approx(1)
    assert overall_exponent({1024: 1.0}) is None


def test_rounds_call_every_function_in_turn() -> None:
    """A function with fewer repeats takes part in the first rounds only."""
    world = World()
    times = world.stopwatch().interleave(
        {
            "a": Timed(call=lambda: world.work("a", 0.5), repeats=3),
            "b": Timed(call=lambda: world.work("b", 2.0), repeats=1),
        }
    )
    assert world.calls == ["a", "b", "a", "a"]
    assert (times["a"].median, times["a"].repeats) == (0.5, 3)
    assert (times["b"].median, times["b"].repeats) == (2.0, 1)


def test_several_calls_in_a_row_count_one_by_one() -> None:
    """Four calls of 0.5 s make a repeat of 0.5 s."""
    world = World()
    times = world.stopwatch().interleave({"a": Timed(call=lambda: world.work("a", 0.5), repeats=2, calls=4)})
    assert len(world.calls) == 8
    assert (times["a"].median, times["a"].calls) == (0.5, 4)


def test_the_spread_is_that_of_the_repeats() -> None:
    """Median and quartiles of 1 to 5 s."""
    world, seconds = World(), iter([1.0, 5.0, 3.0, 2.0, 4.0])
    result = world.stopwatch().interleave({"a": Timed(call=lambda: world.work("a", next(seconds)), repeats=5)})["a"]
    assert (result.lower, result.median, result.upper) == (2, 3, 4)


def test_a_disturbed_round_is_made_again() -> None:
    """The attempt with the least foreign load is used, here the second of two."""
    world, foreign, seconds = World(), iter([1.0, 0.0]), iter([9.0, 1.0])

    def call() -> None:
        world.foreign = next(foreign)
        world.work("a", next(seconds))

    result = world.stopwatch().interleave({"a": Timed(call=call, repeats=1)})["a"]
    assert (result.median, result.foreign, len(world.calls)) == (1.0, 0.0, 2)


@pytest.mark.parametrize(("limit", "calls"), [({"retries": 3}, 4), ({"retries": 3, "patience": 0.5}, 2)])
def test_retries_are_bounded(limit: dict[str, float], calls: int) -> None:
    """By their number and by their total time; the least load is reported, here half of two processors."""
    world = World()
    world.foreign = 1.0
    result = world.stopwatch(**limit).interleave({"a": Timed(call=lambda: world.work("a", 1.0), repeats=1)})["a"]
    assert len(world.calls) == calls
    assert result.foreign == pytest.approx(0.5)


def test_processors_left_free_are_others_to_use() -> None:
    """On two processors, one thread of another process does not disturb one thread; the share is reported nevertheless."""
    world = World()
    world.foreign = 1.0
    result = world.stopwatch(threads=1).interleave({"a": Timed(call=lambda: world.work("a", 1.0), repeats=1)})["a"]
    assert len(world.calls) == 1
    assert result.foreign == pytest.approx(0.5)


def test_foreign_load_is_what_others_used() -> None:
    """It is the busy time without that of this process, divided by the time of all processors; single clock ticks count as 0."""
    load = between(Usage(10.0, 100.0, 5.0), Usage(12.0, 103.0, 6.0), 2)
    assert load == Load(2.0, 4.0)
    assert share_of([load]) == 0.5
    assert share_of([load, Load(0.0, 4.0)]) == 0.25
    assert share_of([Load(LEAST / 2, 0.1)]) == 0
    assert share_of([Load(LEAST / 2, 0.1)] * 3) == pytest.approx(0.15)
    assert share_of([Load(-1.0, 4.0)]) == 0
    assert share_of([]) == 0


def test_the_counters_count_this_process() -> None:
    """After 0.3 s of work in this process, the counter of the system has grown by about as much."""
    before = after = read_usage()
    while after.own - before.own < 0.3:
        after = read_usage()
    assert after.wall - before.wall > 0.2
    assert after.busy - before.busy > 0.2


@pytest.mark.parametrize(
    ("length", "expected"),
    [(16384, [64, 256, 1024, 4096]), (1024, [16, 64, 256]), (64, [16, 32]), (16, [4, 8]), (2, [1]), (1, [1])],
)
def test_trial_lengths(length: int, expected: list[int]) -> None:
    """Lengths grow by factors of 4 from 16 tokens; for short lengths there are two."""
    assert trial_lengths(length) == expected


def test_estimates_follow_the_longest_two() -> None:
    """Growth is at least linear and at most cubic; with one length alone it is quadratic."""
    assert estimate({1: 9.0, 16: 1.0, 64: 16.0}, 256) == pytest.approx(256)
    assert estimate({16: 1.0, 64: 1.0}, 128) == pytest.approx(2)
    assert estimate({16: 1.0, 32: 1024.0}, 64) == pytest.approx(8192)
    assert estimate({16: 1.0, 128: 7.0}, 32) == pytest.approx(4)


def test_a_loop_is_estimated_by_trapezoids() -> None:
    """Calls of i + 1 seconds on 0 to 8 tokens take 45 seconds."""
    assert loop_estimate({i: i + 1.0 for i in (0, 2, 4, 8)}) == pytest.approx(45, abs=5)
    assert loop_estimate({0: 1.0}) == 1


def test_a_budget_decides() -> None:
    """It depends on the smallest number of repeats allowed, or on the number requested."""
    budget = Budget(seconds=30, unhurried=4, shortest=0.002)
    assert [budget.affords(call) for call in (9.9, 10.1)] == [True, False]
    assert [budget.repeats_of(call) for call in (0.001, 0.5, 3.0)] == [9, 8, 3]
    assert [budget.calls_of(call) for call in (1e-5, 0.0011, 1.0)] == [200, 2, 1]
    assert budget.allows_trial({16: 1.0}, 64)  # at most 16 s, for a second length
    assert not budget.allows_trial({16: 3.0}, 64)
    assert budget.allows_trial({16: 0.1, 64: 0.3}, 256)
    assert not budget.allows_trial({16: 0.3, 64: 1.0}, 256)  # 3.3 s for a third length
    assert not budget.allows_trial({16: 0.1, 64: 0.3}, 128)  # too close to the longest known length
    loop = budget.of_loop()
    assert [loop.affords(call) for call in (37.0, 38.0)] == [True, False]
    assert [loop.repeats_of(call) for call in (0.1, 3.0, 20.0)] == [9, 2, 1]
    asked = Budget(seconds=30, repeats=1)
    assert [asked.affords(call) for call in (29.0, 31.0)] == [True, False]
    assert asked.repeats_of(1e-6) == 1
