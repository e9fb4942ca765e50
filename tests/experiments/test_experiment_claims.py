"""The verdicts, on numbers made for them: each claim both ways, and at its threshold."""

from collections.abc import Sequence

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from ctxblocks.base.errors import ArgumentError
from ctxblocks.experiments.claims import Claim, best_rate, check_claims, decay
from ctxblocks.experiments.metrics import Metrics, Tag, tidy
from ctxblocks.experiments.presets import MODELS_OF, preset

TASKS, N, STEPS = 8, 40, (0, 10, 20)
Array = NDArray[np.float64]


@attrs.define
class Numbers:
    """A run's numbers, such that every claim holds."""

    loss_gap: float = 0.0
    trained_exponent: float = -1.0
    untrained_exponent: float = 0.0
    implicit_drop: float = 1.0
    sgd_drop: float = 0.5
    alignment: float = 0.8
    distance: float = 1e-7
    predicted_share: float = 0.9

    def metrics(self, figure: int) -> Metrics:
        """The table for one figure."""
        tables = [table for model in MODELS_OF[figure] for table in self.losses(figure, model)]
        if figure in (3, 6):
            tables += self.marginal(figure, MODELS_OF[figure][0])
        if figure == 4:
            tables += self.finetuning()
        if figure == 5:
            axes = {"block": range(1, 3), "task": range(TASKS)}
            distances = np.full((2, TASKS), self.distance)
            tables += [tidy(tag(5, model, "relative block distance"), distances, axes) for model in MODELS_OF[5]]
        return Metrics(pa.concat_tables(tables))

    def losses(self, figure: int, model: str) -> list[pa.Table]:
        """Both losses at every checkpoint, and both predictions on every task."""
        target = np.linspace(1.0, 2.0, TASKS) * (-1.0) ** np.arange(TASKS)
        falling = np.array([1.0, 0.5, 0.1])
        columns: dict[str, tuple[Array, dict[str, Sequence[int]]]] = {
            "validation loss with context": (falling, {"step": STEPS}),
            "validation loss of updated weights": (falling + np.array([0.0, self.loss_gap, 0.0]), {"step": STEPS}),
            "validation loss of zero predictor": (np.ones(1), {"step": (0,)}),
            "target": (target, {"task": range(TASKS)}),
            "prediction with context": (target * self.predicted_share, {"task": range(TASKS)}),
            "prediction of updated weights": (target * self.predicted_share, {"task": range(TASKS)}),
        }
        return [tidy(tag(figure, model, name), values, axes) for name, (values, axes) in columns.items()]

    def marginal(self, figure: int, model: str) -> list[pa.Table]:
        """Power laws."""
        axes, i = {"task": range(TASKS), "n": range(1, N + 1)}, np.arange(1.0, N + 1)
        exponents = {"trained": self.trained_exponent, "untrained": self.untrained_exponent}
        return [
            tidy(tag(figure, model, "marginal change", control), np.tile(i**exponent, (TASKS, 1)), axes)
            for control, exponent in exponents.items()
        ]

    def finetuning(self) -> list[pa.Table]:
        """Losses that fall evenly, with the same noise on both ends, and a slow rate next to the good one."""
        axes, base = {"task": range(TASKS), "n": range(N + 1)}, np.linspace(2.0, 9.0, TASKS)[:, None]
        noise = 0.1 * (-1.0) ** np.arange(TASKS)[:, None]
        fall = np.linspace(0.0, 1.0, N + 1) * (1.0 + noise)
        tables = [tidy(tag(4, "block", "loss of implicit update"), base - self.implicit_drop * fall, axes)]
        for rate, drop in ((0.01, self.sgd_drop), (0.001, self.sgd_drop - 0.1)):
            tables.append(tidy(tag(4, "block", "loss after SGD", lr=rate), base - drop * fall, axes))
            aligned = np.full((TASKS, N + 1), self.alignment) + noise
            tables.append(tidy(tag(4, "block", "alignment", lr=rate), aligned, axes))
        return tables


def tag(figure: int, model: str, quantity: str, control: str = "trained", lr: float | None = None) -> Tag:
    """The columns that say what a number is."""
    return Tag(run="made", figure=figure, model=model, layer="none", quantity=quantity, control=control, lr=lr)


def verdicts(figure: int, numbers: Numbers) -> list[Claim]:
    """The claims of one figure."""
    return check_claims(preset("quick", [figure], device="cpu"), numbers.metrics(figure))


@pytest.mark.parametrize("figure", [2, 3, 4, 5])
def test_claims_hold_where_they_should(figure: int) -> None:
    """Of a run made to agree with the paper."""
    claims = verdicts(figure, Numbers())
    assert claims
    assert [claim.verdict for claim in claims] == ["holds"] * len(claims)
    assert {claim.figure for claim in claims} == {figure}


def test_the_claims_of_figure_6_hold_of_a_flat_marginal_change() -> None:
    """What vanishes in attention does not in an RNN."""
    assert all(claim.holds for claim in verdicts(6, Numbers(trained_exponent=0.0)))


@pytest.mark.parametrize(
    ("figure", "numbers", "failing"),
    [
        (2, Numbers(loss_gap=1.1e-6), ["losses with context"]),
        (2, Numbers(loss_gap=float("nan")), ["losses with context"]),
        (2, Numbers(predicted_share=0.0), ["it has learned"]),
        (2, Numbers(predicted_share=2.5), ["it has learned"]),
        (3, Numbers(trained_exponent=-0.1), ["vanishes", "is learned"]),
        (3, Numbers(untrained_exponent=-1.0), ["is learned"]),
        (4, Numbers(implicit_drop=0.0), ["move into the weights"]),
        (4, Numbers(implicit_drop=-1.0), ["move into the weights"]),
        (4, Numbers(sgd_drop=0.0), ["in fine-tuning"]),
        (4, Numbers(alignment=0.3), ["are highly aligned"]),
        (4, Numbers(alignment=0.0), ["are aligned", "are highly aligned"]),
        (5, Numbers(distance=1.1e-6), ["block outputs agree"] * 2),
        (5, Numbers(loss_gap=-2e-6), ["losses with context"] * 2),
        (6, Numbers(trained_exponent=-1.0), ["does not vanish"]),
        (6, Numbers(trained_exponent=0.0, loss_gap=1e-3), ["losses with context"]),
    ],
)
def test_claims_fail_where_they_should(figure: int, numbers: Numbers, failing: list[str]) -> None:
    """Each by its own numbers, and no other with it."""
    found = [claim for claim in verdicts(figure, numbers) if not claim.holds]
    assert len(found) == len(failing)
    for claim, words in zip(found, failing, strict=True):
        assert words in claim.statement
        assert claim.verdict == "does not hold"


def test_the_best_rate_is_not_one_that_diverged() -> None:
    """The lowest finite loss at the end decides."""
    tables = []
    for rate, end in ((0.01, 0.5), (0.1, float("nan")), (1.0, float("inf"))):
        losses = np.full((TASKS, 2), end)
        tables.append(tidy(tag(4, "block", "loss after SGD", lr=rate), losses, {"task": range(TASKS), "n": (0, 1)}))
    assert best_rate(Metrics(pa.concat_tables(tables))) == 0.01


def test_a_table_gives_back_its_arrays() -> None:
    """By name, in the order of the coordinates, whatever the order of the rows; a missing row is an error."""
    values = np.arange(6.0).reshape(2, 3)
    table = tidy(tag(2, "block", "loss"), values, {"task": (4, 7), "n": (0, 1, 2)})
    shuffled = table.take([3, 0, 5, 1, 4, 2])
    assert np.array_equal(Metrics(shuffled).array({"quantity": "loss"}, "task", "n"), values)
    assert Metrics(table).coordinates({"quantity": "loss"}, "task").tolist() == [4, 7]
    with pytest.raises(ArgumentError, match=r"got 5 rows for .*needs one for each place of"):
        Metrics(table.slice(0, 5)).array({"quantity": "loss"}, "task", "n")
    with pytest.raises(ArgumentError, match="got 0 rows"):
        Metrics(table).array({"quantity": "nothing"}, "task")
    with pytest.raises(ArgumentError, match="got shape"):
        tidy(tag(2, "block", "loss"), values, {"task": (4, 7)})


def test_claims_on_one_task_are_not_measured() -> None:
    """A mean over one task has no standard error, so what depends on it has no verdict."""
    table = Numbers().metrics(4).table
    one = Metrics(table.filter(pc.or_kleene(pc.is_null(table["task"]), pc.equal(table["task"], 0))))
    claims = check_claims(preset("quick", [4], device="cpu"), one)
    assert [claim.verdict for claim in claims] == ["not measured"] * 3 + ["holds"]
    assert all("±" not in claim.measured for claim in claims)


def test_a_decay_compares_both_ends() -> None:
    """The first ten tokens with the last ten; of a short prompt its halves."""
    assert decay(np.concatenate([np.full(10, 6.0), np.full(5, 99.0), np.full(10, 2.0)])[None]) == 3.0
    assert decay(np.array([[8.0, 2.0]])) == 4.0
