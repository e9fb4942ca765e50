"""What statistics makes of a prompt's examples: predictions at the query from the first `i`, for every `i`."""

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
    """`predict(x, y, x_q)` of all tasks for every number of examples, after 0 without any."""
    points, values, query = _parts(prompts)
    found = [torch.zeros(len(query), dtype=torch.float64)]
    found += [predict(points[:, :i], values[:, :i], query) for i in range(1, points.shape[1] + 1)]
    return torch.stack(found, dim=-1).numpy()


def zero(prompts: Prompts) -> Array:
    """Always 0."""
    return _prefixes(prompts, lambda points, values, query: torch.zeros(len(query), dtype=torch.float64))


def averaging(prompts: Prompts) -> Array:
    """`⟨mean(x_j y_j), x_q⟩`."""
    return _prefixes(prompts, lambda x, y, q: ((x * y.unsqueeze(-1)).mean(1) * q).sum(-1))


def least_squares(prompts: Prompts) -> Array:
    """Least squares without intercept; of several fits the one of least norm."""

    def predict(points: Tensor, values: Tensor, query: Tensor) -> Tensor:
        fit: Tensor = torch.linalg.lstsq(points, values.unsqueeze(-1), driver="gelsd").solution  # (tasks, d, 1)
        return (query.unsqueeze(1) @ fit)[:, 0, 0]

    return _prefixes(prompts, predict)


def ridge(penalty: float) -> Baseline:
    """`argmin ‖Xw − y‖² + λ‖w‖²`; with `λ = σ²` the best there is for normal weights and noise `N(0, σ²)`."""

    def predict(points: Tensor, values: Tensor, query: Tensor) -> Tensor:
        eye = torch.eye(points.shape[-1], dtype=torch.float64)
        gram = points.mT @ points + penalty * eye
        fit: Tensor = torch.linalg.solve(gram, points.mT @ values.unsqueeze(-1))
        return (query.unsqueeze(1) @ fit)[:, 0, 0]

    return lambda prompts: _prefixes(prompts, predict)


def neighbours(count: int) -> Baseline:
    """The mean label of the nearest examples, of all where there are fewer."""

    def predict(points: Tensor, values: Tensor, query: Tensor) -> Tensor:
        distances = torch.linalg.vector_norm(points - query.unsqueeze(1), dim=-1)
        nearest = distances.topk(min(count, points.shape[1]), largest=False).indices
        return values.gather(1, nearest).mean(-1)

    return lambda prompts: _prefixes(prompts, predict)


def fitted(make: Callable[[], Any]) -> Baseline:
    """A regressor of scikit-learn, fitted anew to every prefix of every task."""

    def baseline(prompts: Prompts) -> Array:
        points, values, query = (part.numpy() for part in _parts(prompts))
        found = np.zeros((len(query), points.shape[1] + 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit of few examples may say that it has not converged, and it need not
            for task in range(len(query)):
                for i in range(1, points.shape[1] + 1):
                    model = make().fit(points[task, :i], values[task, :i])
                    found[task, i] = model.predict(query[task : task + 1])[0]
        return found

    return baseline


def lasso(penalty: float) -> Baseline:
    """Least squares with an absolute penalty, without intercept."""

    def make() -> Any:
        from sklearn.linear_model import Lasso

        return Lasso(alpha=penalty, fit_intercept=False)

    return fitted(make)


def tree(depth: int) -> Baseline:
    """A regression tree of limited depth."""

    def make() -> Any:
        from sklearn.tree import DecisionTreeRegressor

        return DecisionTreeRegressor(max_depth=depth, random_state=0)

    return fitted(make)


def network(hidden: int) -> Baseline:
    """A network of one hidden layer, trained on the prefix by L-BFGS."""

    def make() -> Any:
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor(hidden_layer_sizes=(hidden,), solver="lbfgs", max_iter=100, random_state=0)

    return fitted(make)


def lookup(interleaved: bool) -> Baseline:
    """The value that stood beside the query's key, 0 where that has not come yet: what recall is at its best."""

    def baseline(prompts: Prompts) -> Array:
        points, values, query = _parts(prompts)
        if interleaved:  # the value is one token behind its key
            points, values = points[:, :-1], values[:, 1:]
        same = (points == query.unsqueeze(1)).all(-1) & (query != 0).any(-1, keepdim=True)  # (tasks, n)
        found = torch.cumsum(torch.where(same, values, 0.0), dim=-1)
        found = torch.nn.functional.pad(found, (2 if interleaved else 1, 0))
        return found.numpy()

    return baseline
