"""Probes of trials, that is of prompts with targets: error in context, comparison with SGD, and the factorised product."""

import torch
from torch import Tensor

from ctxblocks import LowRank, Trial, factorize, finetune

LEARNING_RATE = 0.01
"""Learning rate of the SGD with which updates are compared."""


def in_context_error(trial: Trial) -> Tensor:  # (tasks, n + 1)
    """`(ŷ − f(x_q))²`, `ŷ` the last entry of the block's output after `i` tokens."""
    target = trial.prompts.target.to(trial.dynamics.outputs)
    return (trial.dynamics.outputs[..., -1] - target.unsqueeze(-1)).square()


def gradient_alignment(trial: Trial) -> Tensor:  # (tasks, n + 1)
    """The cosine of `ΔW_i` and the change of the same weights by `i` steps of SGD on the same examples [Sec. 4.4]."""
    query, context = trial.inputs
    with torch.enable_grad():
        tuned = finetune(trial.dynamics.block, query, context, LEARNING_RATE)
    return tuned.alignment(trial.updates).detach()


def effective_rank(trial: Trial) -> Tensor:  # (tasks,)
    """The effective rank `exp(H)` of `W(P_1 … P_n − I)`, with `H` the entropy of its spectrum [Eq. 31].

    The total update of Theorem 2.2 has effective rank 1. It is 0 if the context changes nothing.
    """
    shares = spectrum(trial)
    entropy = -(shares * torch.where(shares > 0, shares, 1.0).log()).sum(-1)
    return torch.where(shares.sum(-1) == 0, 0.0, entropy.exp())


def leading_share(trial: Trial) -> Tensor:  # (tasks,)
    """The largest squared singular value of `W(P_1 … P_n − I)` over their sum: 1 for rank one, 0 if nothing changes."""
    return spectrum(trial)[..., :1].sum(-1)


def spectrum(trial: Trial) -> Tensor:  # (tasks, n), in falling order
    """The squared singular values of `W(P_1 … P_n − I)`, `W` the stack of all input projections, divided by their sum."""
    query, context = trial.inputs
    product = factorize(trial.dynamics.block, query, context, solver=trial.dynamics.solver, check=False).product()
    changes = [product.delta(weight.detach()) for weight in trial.weights()]
    stacked = LowRank(torch.cat([change.columns for change in changes], dim=-2), changes[0].rows)
    squares = singular_values(stacked).square()
    total = squares.sum(-1, keepdim=True)
    return squares / torch.where(total == 0, 1, total)


def singular_values(low: LowRank) -> Tensor:  # (…, r), in falling order
    """The singular values of `columns @ rows`, from the `R` factors of two QR decompositions, without the dense matrix."""
    left = torch.linalg.qr(low.columns.double(), mode="r").R  # (…, r', r)
    right = torch.linalg.qr(low.rows.double().mT, mode="r").R
    values: Tensor = torch.linalg.svdvals(left @ right.mT)
    return values


def state_size(trial: Trial) -> Tensor:  # (tasks, n + 1)
    """`ContextualLayer.state_size(i)`, the size of the layer's state after `i` tokens; the same for every task."""
    steps = trial.updates.operator.key.shape[-2]
    sizes = [float(trial.dynamics.block.layer.state_size(i)) for i in range(steps)]
    return torch.tensor(sizes).expand(*trial.prompts.target.shape, steps)
