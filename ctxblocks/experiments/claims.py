"""The paper's claims, checked on the numbers of a run: each with its criterion, what was measured, and a verdict."""

from collections.abc import Iterator

import attrs
import numpy as np

from ctxblocks.experiments.baselines import half_squares
from ctxblocks.experiments.metrics import Metrics
from ctxblocks.experiments.presets import MODELS_OF, Configuration
from ctxblocks.runs import claims
from ctxblocks.runs.statistics import Array, Mean, mean_of, means_of

AGREEMENT = 1e-6
"""Largest difference of two losses, and largest relative distance of two activations, that count as equal in float32."""
VANISHING = 5.0
"""A marginal change vanishes if the last tokens move the weights at least this many times less than the first."""
LEARNED_DECAY = 2.0
"""A decay is learned if that of the trained block is at least this many times that of the untrained one."""
HIGH_ALIGNMENT = 0.5
"""Normalised product from which on two updates count as highly aligned: an angle of at most 60°."""
ENDS = 10
"""Tokens at either end of a context over which a decay is measured."""
SIGNIFICANT = "above 0 at 95 % (mean > t(0.975, n − 1) · SE)"


@attrs.frozen(kw_only=True)
class Claim(claims.Claim):
    """A claim of the paper and its verdict.

    Attributes:
        figure: the number of the figure that shows it; `about` names it in words.
    """

    figure: int
    about: str = attrs.field(init=False)

    @about.default
    def _figure(self) -> str:
        return f"Figure {self.figure}"


def check_claims(config: Configuration, metrics: Metrics) -> list[Claim]:
    """The claims of every figure in the configuration, in order."""
    checks = {2: _figure_2, 3: _figure_3, 4: _figure_4, 5: _figure_5, 6: _figure_6}
    return [claim for figure in config.figures for claim in checks[figure](metrics)]


def _figure_2(metrics: Metrics) -> Iterator[Claim]:
    yield _agreement(metrics, 2, "block")
    yield _learned(metrics, 2, "block")


def _figure_3(metrics: Metrics) -> Iterator[Claim]:
    trained, untrained = _decays(metrics, "block")
    yield Claim(
        figure=3,
        statement="block: the marginal change vanishes as the context grows",
        criterion=f"first ten tokens over last ten ≥ {VANISHING:g}",
        measured=f"{trained:.3g}",
        holds=trained >= VANISHING,
    )
    yield Claim(
        figure=3,
        statement="block: this decay is learned",
        criterion=f"trained ratio ≥ {LEARNED_DECAY:g} × untrained",
        measured=f"trained {trained:.3g}, untrained {untrained:.3g}, one over the other {trained / untrained:.3g}",
        holds=trained / untrained >= LEARNED_DECAY,
    )


def _figure_4(metrics: Metrics) -> Iterator[Claim]:
    drops = {rate: _drop(losses) for rate, losses in sgd_losses(metrics).items()}
    best = best_rate(metrics)
    falling = sum(drop.above_zero is True for drop in drops.values())
    implicit = _drop(metrics.array({"quantity": "loss of implicit update"}, "task", "n"))
    criterion = f"mean paired drop from i = 0 to n {SIGNIFICANT}"
    yield Claim(
        figure=4,
        statement="block: the loss falls as tokens move into the weights",
        criterion=criterion,
        measured=str(implicit),
        holds=implicit.above_zero,
    )
    yield Claim(
        figure=4,
        statement="block: the loss falls in fine-tuning",
        criterion=f"{criterion}, at the best rate",
        measured=f"{drops[best]} at rate {best:g}; so at {falling} of {len(drops)} rates",
        holds=drops[best].above_zero,
    )
    yield from _alignment(metrics.array({"quantity": "alignment", "lr": best}, "task", "n"), best)


def _alignment(values: Array, rate: float) -> Iterator[Claim]:
    """The two readings of "aligned", from `i = 1`, since at 0 both updates vanish."""
    overall, single = mean_of(values[:, 1:].mean(axis=1)), means_of(values)
    ends = [f"i = {i}: {single.at(i)}" for i in (1, values.shape[1] - 1)]
    measured = f"{overall} from i = 1 on at rate {rate:g} ({', '.join(ends)})"
    yield Claim(
        figure=4,
        statement="block: the two updates are aligned",
        criterion=f"mean alignment {SIGNIFICANT}",
        measured=measured,
        holds=overall.above_zero,
    )
    yield Claim(
        figure=4,
        statement="block: the two updates are highly aligned",
        criterion=f"mean alignment ≥ {HIGH_ALIGNMENT:g}",
        measured=measured,
        holds=bool(overall.value >= HIGH_ALIGNMENT),
    )


def _figure_5(metrics: Metrics) -> Iterator[Claim]:
    for model in MODELS_OF[5]:
        yield _agreement(metrics, 5, model)
        distances = metrics.array({"model": model, "quantity": "relative block distance"}, "block", "task")
        yield Claim(
            figure=5,
            statement=f"{model}: block outputs agree",
            criterion=f"relative distance ≤ {AGREEMENT:g} at every block, on every task",
            measured=f"{distances.max():.2g} at most; the largest mean of a block {distances.mean(axis=1).max():.2g}",
            holds=bool(distances.max() <= AGREEMENT),
        )
        yield _learned(metrics, 5, model)


def _figure_6(metrics: Metrics) -> Iterator[Claim]:
    yield _agreement(metrics, 6, "rnn")
    trained, untrained = _decays(metrics, "rnn")
    yield Claim(
        figure=6,
        statement="rnn: the marginal change does not vanish",
        criterion=f"first ten tokens over last ten < {VANISHING:g}",
        measured=f"trained {trained:.3g}, untrained {untrained:.3g}",
        holds=trained < VANISHING,
    )
    yield _learned(metrics, 6, "rnn")


def _agreement(metrics: Metrics, figure: int, model: str) -> Claim:
    """Both validation losses at every checkpoint, and both predictions on the new tasks."""
    with_context, updated = (
        metrics.array({"model": model, "quantity": f"validation loss {name}"}, "step")
        for name in ("with context", "of updated weights")
    )
    largest = np.abs(with_context - updated).max()
    predictions = prediction_differences(metrics, model).max()
    return Claim(
        figure=figure,
        statement=f"{model}: the losses with context and of updated weights without it agree",
        criterion=f"difference ≤ {AGREEMENT:g} at every checkpoint",
        measured=f"{largest:.2g} at most, of {len(updated)}; predictions on new tasks differ by {predictions:.2g} at most",
        holds=bool(largest <= AGREEMENT),
    )


def _learned(metrics: Metrics, figure: int, model: str) -> Claim:
    """Whether the model beats the zero predictor."""
    loss, zero = final_losses(metrics, model)
    target, predicted = (
        metrics.array({"model": model, "control": "trained", "quantity": name}, "task")
        for name in ("target", "prediction with context")
    )
    gain = mean_of(half_squares(np.zeros_like(target), target) - half_squares(predicted, target))
    return Claim(
        figure=figure,
        statement=f"{model}: it has learned in context",
        criterion=f"mean paired gain on the zero predictor {SIGNIFICANT}",
        measured=f"gain {gain} on new tasks; validation loss {loss:.3g}, zero predictor {zero:.3g}",
        holds=gain.above_zero,
    )


def prediction_differences(metrics: Metrics, model: str) -> Array:  # (tasks,)
    """The distance of the two predictions on every new task."""
    first, second = (
        metrics.array({"model": model, "control": "trained", "quantity": f"prediction {name}"}, "task")
        for name in ("with context", "of updated weights")
    )
    return np.asarray(np.abs(first - second))


def final_losses(metrics: Metrics, model: str) -> tuple[float, float]:
    """The last validation loss, and that of the zero predictor on the same tasks."""
    losses = metrics.array({"model": model, "quantity": "validation loss with context"}, "step")
    zero = metrics.array({"model": model, "quantity": "validation loss of zero predictor"})
    return float(losses[-1]), float(zero)


def sgd_losses(metrics: Metrics) -> dict[float, Array]:  # (tasks, n + 1) each
    """The losses of fine-tuning, by learning rate."""
    where = {"quantity": "loss after SGD"}
    rates = metrics.coordinates(where, "lr").tolist()
    return {rate: metrics.array({**where, "lr": rate}, "task", "n") for rate in rates}


def best_rate(metrics: Metrics) -> float:
    """The learning rate with the lowest mean loss at the end; rates that diverged are excluded."""
    ends = {rate: losses[:, -1].mean() for rate, losses in sgd_losses(metrics).items()}
    return min(ends, key=lambda rate: ends[rate] if np.isfinite(ends[rate]) else np.inf)


def _drop(losses: Array) -> Mean:
    return mean_of(losses[:, 0] - losses[:, -1])


def _decays(metrics: Metrics, model: str) -> tuple[float, float]:
    """The decays of the trained model and of the untrained one."""
    where = {"model": model, "quantity": "marginal change"}
    trained, untrained = (metrics.array({**where, "control": name}, "task", "n") for name in ("trained", "untrained"))
    return decay(trained), decay(untrained)


def decay(
    values: Array,  # (tasks, n)
) -> float:
    """The mean over the first ten tokens divided by that over the last ten; for a short prompt, over its two halves."""
    count = max(1, min(ENDS, values.shape[-1] // 2))
    return float(values[:, :count].mean() / values[:, -count:].mean())
