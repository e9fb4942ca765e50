"""Statistical baselines: predictions at the query from the first `i` examples of a prompt, for every `i`."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxblocks import Baseline, Prompts

Array = NDArray[np.float64]


def _parts(prompts: Prompts) -> tuple[Tensor, Tensor, Tensor]:
    """`x_j (tasks, n, d)`, `y_j (tasks, n)` and `x_q (tasks, d)` in float64 on the CPU."""
    query, context, _ = (tensor.detach().double().cpu() for tensor in prompts)
    return context[..., :-1], context[..., -1], query[..., :-1]


def _prefixes(prompts: Prompts, predict: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Array:  # (tasks, n + 1)
    """`predict(x, y, x_q)` of all tasks for every number of examples; 0 without examples."""
    points, values, query = _parts(prompts)
    predictions = [torch.zeros(len(query), dtype=torch.float64)]
    predictions += [predict(points[:, :i], values[:, :i], query) for i in range(1, points.shape[1] + 1)]
    return torch.stack(predictions, dim=-1).numpy()


def zero(prompts: Prompts) -> Array:
    """Always 0."""
    return _prefixes(prompts, lambda points, values, query: torch.zeros(len(query), dtype=torch.float64))


def averaging(prompts: Prompts) -> Array:
    """`⟨mean(x_j y_j), x_q⟩`."""
    return _prefixes(prompts, lambda x, y, q: ((x * y.unsqueeze(-1)).mean(1) * q).sum(-1))


def least_squares(prompts: Prompts) -> Array:
    """Least squares without intercept; the minimum-norm solution where there are several."""

    def predict(points: Tensor, values: Tensor, query: Tensor) -> Tensor:
        fit: Tensor = torch.linalg.lstsq(points, values.unsqueeze(-1), driver="gelsd").solution  # (tasks, d, 1)
        return (query.unsqueeze(1) @ fit)[:, 0, 0]

    return _prefixes(prompts, predict)


def ridge(penalty: float) -> Baseline:
    """`argmin ‖Xw − y‖² + λ‖w‖²`; with `λ = σ²` it is Bayes-optimal for normal weights and noise `N(0, σ²)`."""

    def predict(points: Tensor, values: Tensor, query: Tensor) -> Tensor:
        eye = torch.eye(points.shape[-1], dtype=torch.float64)
        gram = points.mT @ points + penalty * eye
        fit: Tensor = torch.linalg.solve(gram, points.mT @ values.unsqueeze(-1))
        return (query.unsqueeze(1) @ fit)[:, 0, 0]

    return lambda prompts: _prefixes(prompts, predict)


def neighbours(count: int) -> Baseline:
    """The mean label of the `count` nearest examples, or of all if there are fewer."""

    def predict(points: Tensor, values: Tensor, query: Tensor) -> Tensor:
        distances = torch.linalg.vector_norm(points - query.unsqueeze(1), dim=-1)
        nearest = distances.topk(min(count, points.shape[1]), largest=False).indices
        return values.gather(1, nearest).mean(-1)

    return lambda prompts: _prefixes(prompts, predict)


def fitted(make: Callable[[], Any]) -> Baseline:
    """A scikit-learn regressor, fitted separately to every prefix of every task."""

    def baseline(prompts: Prompts) -> Array:
        points, values, query = (part.numpy() for part in _parts(prompts))
        predictions = np.zeros((len(query), points.shape[1] + 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # with few examples fits may not converge, which is fine
            for task in range(len(query)):
                for i in range(1, points.shape[1] + 1):
                    model = make().fit(points[task, :i], values[task, :i])
                    predictions[task, i] = model.predict(query[task : task + 1])[0]
        return predictions

    return baseline


def lasso(penalty: float) -> Baseline:
    """Least squares with an `L1` penalty, without intercept."""

    def make() -> Any:
        from sklearn.linear_model import Lasso

        return Lasso(alpha=penalty, fit_intercept=False)

    return fitted(make)


def tree(depth: int) -> Baseline:
    """A regression tree with at most the given depth."""

    def make() -> Any:
        from sklearn.tree import DecisionTreeRegressor

        return DecisionTreeRegressor(max_depth=depth, random_state=0)

    return fitted(make)


def network(hidden: int) -> Baseline:
    """A network with one hidden layer, trained on the prefix by L-BFGS."""

    def make() -> Any:
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor(hidden_layer_sizes=(hidden,), solver="lbfgs", max_iter=100, random_state=0)

    return fitted(make)


def lookup(interleaved: bool) -> Baseline:
    """The value paired with the query's key, or 0 before that value has appeared: perfect recall."""

    def baseline(prompts: Prompts) -> Array:
        points, values, query = _parts(prompts)
        if interleaved:  # the value is one token after its key
            points, values = points[:, :-1], values[:, 1:]
        same = (points == query.unsqueeze(1)).all(-1) & (query != 0).any(-1, keepdim=True)  # (tasks, n)
        recalled = torch.cumsum(torch.where(same, values, 0.0), dim=-1)
        return torch.nn.functional.pad(recalled, (2 if interleaved else 1, 0)).numpy()

    return baseline
