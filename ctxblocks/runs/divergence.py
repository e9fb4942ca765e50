"""Trainings that diverge: the first step whose loss is not finite."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctxblocks.base.checks import all_finite
from ctxblocks.base.errors import NonFiniteError


def check_losses(
    losses: Sequence[Tensor],  # () each
    first: int,
    steps: int,
) -> None:
    """Raise unless the losses of successive steps are finite.

    Args:
        losses: of the steps, before each of them.
        first: number of the first of these steps, counted from 1.
        steps: of the whole training.

    Raises:
        NonFiniteError: a loss is NaN or infinite: the training diverged.
    """
    bad = (~torch.stack(list(losses)).isfinite()).nonzero()
    if len(bad):
        place = int(bad[0])
        raise NonFiniteError(
            f"training: diverged at step {first + place} of {steps}, where the loss is {float(losses[place])}, needs finite "
            f"losses; lower the learning rate, or look for an overflow in the layer"
        )


def check_trained(model: nn.Module, steps: int) -> None:
    """Raise unless the weights of a model are finite after its last step, whose loss was.

    Raises:
        NonFiniteError: the last step diverged.
    """
    bad = [name for name, each in model.named_parameters() if not all_finite(each)]
    if bad:
        raise NonFiniteError(
            f"training: diverged at step {steps} of {steps}, after which the parameter {bad[0]!r} is not finite, needs finite "
            f"weights; lower the learning rate, or look for an overflow in the layer"
        )
