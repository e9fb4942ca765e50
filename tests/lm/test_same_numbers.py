"""The core and the language models give the same numbers: lengths of tiny updates, and the last layers of a mixture."""

import torch
from ctxblocks_transformers import transfer_model
from ctxblocks_transformers.prefixes.measures import measure
from lm.tiny import prompt, tiny
from theorems.helpers import Pool, problem
from torch import Tensor

from ctxblocks import (
    ContextOperator,
    Dynamics,
    ImplicitUpdate,
    LeastNorm,
    MixtureOfExperts,
    PlainBlock,
    Read,
    ResidualBlock,
    dynamics,
    registry,
)

TINY = 1e-24


class Mixture(MixtureOfExperts):
    """Gates in float32 whatever the dtype of the tokens, as the mixtures of `transformers` compute them."""

    def gates(self, z: Tensor) -> Tensor:
        kept, index = torch.softmax(self.router(z), dim=-1, dtype=torch.float32).topk(self.active, dim=-1)
        kept = kept / kept.sum(-1, keepdim=True)
        return torch.zeros_like(self.router(z)).scatter(-1, index, kept.to(z.dtype))


def test_tiny_updates_have_the_same_lengths_everywhere() -> None:
    """With `δ` of 1e-24 in float32, whose square is 0 there, dynamics, probe and trace agree with float64."""
    query, context = problem(n=6)
    block = PlainBlock(Pool(), MixtureOfExperts(4, 6, experts=3, active=2)).double()
    steps = dynamics(block, query, context)
    operator = ContextOperator(TINY * steps.updates.operator.direction, steps.updates.operator.key)
    wide = Dynamics(ImplicitUpdate(operator), steps.full, steps.base, block, LeastNorm())
    small = ImplicitUpdate(ContextOperator(operator.direction.float(), operator.key.float()))
    read = Read(steps.full.z.float()), Read(steps.base.z.float())
    narrow = Dynamics(small, *read, block.float(), LeastNorm())
    wanted = wide.updates.marginal_change([weight.double() for weight in narrow.weights()])
    found = {
        "dynamics": narrow.marginal_norms(),
        "probe": registry().probe("marginal-change").measure(narrow),
        "trace": measure(small, narrow.weights())["marginal-change"],
    }
    for name, values in found.items():
        assert bool((values > 0).all()), name
        torch.testing.assert_close(values.double(), wanted, rtol=1e-5, atol=0, msg=name)


def test_a_mixture_is_merged_by_one_rule() -> None:
    """`ΔW_down` of a block with a mixture, merged by the core and through a language model, differs by round-off alone."""
    model = tiny("mixtral")
    update = transfer_model(model, prompt())
    layers, merged = model.model.layers[0].mlp, update.merged(model, "last-layer").model.layers[0].mlp
    change = merged.experts.down_proj - layers.experts.down_proj  # (experts, d, m)
    experts, width, hidden = change.shape
    network = Mixture(width, hidden, experts, model.config.num_experts_per_tok).double()
    with torch.no_grad():
        network.router.weight.copy_(layers.gate.weight)
        for j, expert in enumerate(network.experts):
            gate, up = layers.experts.gate_up_proj[j].chunk(2)
            for linear, weight in ((expert.gate, gate), (expert.up, up), (expert.down, layers.experts.down_proj[j])):
                linear.weight.copy_(weight)  # type: ignore[union-attr]
    block = ResidualBlock(Pool(width), network, norm="pre").double()
    first = update.updates[0]
    assert first is not None
    operator, shift = first[0].operator, first[0].shift
    z = operator.key / operator.key.square().sum()  # of the least-norm key z / ‖z‖²
    carrier, absent = network.last_key(z, operator)
    core = ImplicitUpdate(operator, shift, "network", "last-layer", carrier).merged(block).network
    assert not bool(absent)
    downs = [[expert.down.weight for expert in each.experts] for each in (core, network)]  # type: ignore[union-attr]
    mine = torch.stack([new - old for new, old in zip(*downs, strict=True)]).detach()
    lengths = [float(torch.linalg.vector_norm(each)) for each in (mine, change.detach())]
    assert abs(lengths[0] - lengths[1]) <= 1e-12 * lengths[1]
    torch.testing.assert_close(mine, change.detach(), rtol=1e-10, atol=1e-13)
