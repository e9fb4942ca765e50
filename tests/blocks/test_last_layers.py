"""The bias shift in the last dense layers: the least-norm rule over all experts of a mixture."""

import torch
from theorems.helpers import block, problem

from ctxblocks import MixtureOfExperts, last_layer_key, transfer

QUERY, CONTEXT = problem()


def test_a_mixture_takes_the_change_of_least_norm() -> None:
    """`ΔW_down,j = Δb' g_j u_jᵀ / Σ_i g_i²‖u_i‖²`: the pseudo-inverse of what all experts read together."""
    model = block("pre-norm", "moe")
    network = model.network
    assert isinstance(network, MixtureOfExperts)
    update = transfer(model, QUERY, CONTEXT, place="last-layer")
    merged = update.merged(model).network
    assert isinstance(merged, MixtureOfExperts)
    assert update.shift is not None
    z = update.operator.apply(model.contextualize(QUERY, model.no_tokens(QUERY)).z)
    gates = network.gates(z)
    read = torch.cat([gates[j] * expert.hidden(z) for j, expert in enumerate(network.experts)])  # type: ignore[operator]
    wanted = torch.outer(update.shift, torch.linalg.pinv(read[None])[:, 0])
    pairs = zip(merged.experts, network.experts, strict=True)
    change = torch.cat([new.down.weight - old.down.weight for new, old in pairs], dim=-1)  # type: ignore[union-attr]
    torch.testing.assert_close(change, wanted, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(update.merged(model)(QUERY), model(QUERY, CONTEXT))


def test_one_layer_reads_what_a_mixture_of_one_expert_reads() -> None:
    """With one expert and gate 1 the two rules are the same; where nothing is read there is no key."""
    read = torch.randn(3, 1, 5, dtype=torch.float64)
    read[1] = 0
    key, absent = last_layer_key(read, mixture=True)
    alone, nowhere = last_layer_key(read.squeeze(-2))
    assert absent.tolist() == nowhere.tolist() == [False, True, False]
    torch.testing.assert_close(key[[0, 2]].squeeze(-2), alone[[0, 2]])
