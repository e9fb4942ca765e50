"""Baselines on the examples of a prompt: least squares on every prefix, and the zero predictor."""

import numpy as np
import torch

from ctxblocks.registration.tasks import Prompts
from ctxblocks.runs.statistics import Array


def half_squares(predictions: Array, targets: Array) -> Array:
    """`½ (ŷ − y)²`, the loss of all figures."""
    return np.asarray(0.5 * (predictions - targets) ** 2)


def zero_losses(prompts: Prompts) -> Array:  # (tasks,)
    """The loss of the predictor that always predicts 0."""
    targets = prompts.target.double().cpu().numpy()
    return half_squares(np.zeros_like(targets), targets)


def least_squares_losses(prompts: Prompts) -> Array:  # (tasks, n + 1)
    """The loss of least squares without intercept on the first `i` examples, `i = 0 … n`; the least-norm fit of several."""
    query, context, target = (tensor.double().cpu() for tensor in prompts)
    predictions = [torch.zeros_like(target)]
    for i in range(1, context.shape[-2] + 1):
        fit = torch.linalg.lstsq(context[:, :i, :-1], context[:, :i, -1:], driver="gelsd")
        predictions.append((query[:, None, :-1] @ fit.solution)[:, 0, 0])
    return half_squares(torch.stack(predictions, dim=-1).numpy(), target.numpy()[:, None])
