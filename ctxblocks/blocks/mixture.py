"""A mixture of gated experts: the router and every expert read the same `z`."""

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.networks import GatedMLP, LastLayerUpdate, Network
from ctxblocks.blocks.weights import LinearWeights, RankOneChange, last_layer_key
from ctxblocks.numerics import dot, widen


class MixtureOfExperts(Network):
    """`Σ_j g_j(z) E_j(z)`: softmax router, the `active` largest gates kept, gated experts without biases.

    Every expert is computed for every `z` and weighted by its gate, zero for those not chosen.

    Args:
        width: d.
        hidden: m of each expert.
        experts: how many.
        active: how many of them each `z` uses.
        renormalize: whether the kept gates are divided by their sum.
    """

    bias: nn.Parameter | None

    def __init__(self, width: int, hidden: int, experts: int, active: int, renormalize: bool = True) -> None:
        super().__init__()
        if not 1 <= active <= experts:
            raise ArgumentError(f"active: got {active} of {experts} experts, needs 1 ≤ active ≤ experts")
        self.width = width
        self.active = active
        self.renormalize = renormalize
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList([GatedMLP(width, hidden) for _ in range(experts)])
        self.register_parameter("bias", None)

    @property
    def readers(self) -> dict[str, nn.Linear]:
        """`router`, and `experts.j.gate` and `experts.j.up` of every expert."""
        named: dict[str, nn.Linear] = {"router": self.router}
        for j, expert in enumerate(self._experts()):
            named |= {f"experts.{j}.{name}": linear for name, linear in expert.readers.items()}
        return named

    def _experts(self) -> list[GatedMLP]:
        return [expert for expert in self.experts if isinstance(expert, GatedMLP)]

    def chosen(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, active), indices
        """The experts that `z` is sent to, largest gate first."""
        logits: Tensor = self.router(z)
        return logits.topk(self.active, dim=-1).indices

    def gates(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, experts)
        """The weight of every expert, zero where it was not chosen."""
        logits = self.router(z)
        chances = torch.softmax(widen(logits), dim=-1)
        kept, index = chances.topk(self.active, dim=-1)
        if self.renormalize:
            kept = kept / kept.sum(-1, keepdim=True)
        return torch.zeros_like(chances).scatter(-1, index, kept).to(z.dtype)

    def forward(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None = None,
        last: LastLayerUpdate | None = None,
    ) -> Tensor:  # (…, d)
        """`Σ_j g_j(Pz) (W_down,j + Δb' key_jᵀ) u_j(Pz)`, with the output's bias where there is one."""
        z = z if operator is None else operator.apply(z)
        gates = self.gates(z)
        hidden = torch.stack([expert.hidden(z) for expert in self._experts()], dim=-2)  # (…, experts, m)
        outputs = [expert.down(hidden[..., j, :]) for j, expert in enumerate(self._experts())]
        output = (gates.unsqueeze(-1) * torch.stack(outputs, dim=-2)).sum(-2)
        if last is not None:
            share = (widen(gates) * dot(last.key, hidden)).sum(
                -1, keepdim=True
            )  # (…, 1), 1 at the read it was made for
            output = output + last.shift * share.to(z.dtype)
        return output if self.bias is None else output + self.bias

    def last_key(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None,
    ) -> tuple[Tensor, Tensor]:  # (…, experts, m), (…)
        """`g_j u_j / Σ_i g_i²‖u_i‖²` of every expert, 0 of those that are not active; and where every `g_j u_j` is 0."""
        z = z if operator is None else operator.apply(z)
        hidden = torch.stack([expert.hidden(z) for expert in self._experts()], dim=-2)
        gated = widen(self.gates(z)).unsqueeze(-1) * widen(hidden)
        key, absent = last_layer_key(gated, mixture=True)
        return key.to(z.dtype), absent

    def add_last(self, last: LastLayerUpdate) -> None:
        """`W_down,j ← W_down,j + Δb' key_jᵀ` of every expert."""
        for j, expert in enumerate(self._experts()):
            RankOneChange(LinearWeights.of(expert.down), last.shift, last.key[j]).add()

    def add_output_bias(self, shift: Tensor) -> None:
        """Add to the bias that follows the weighted sum of experts."""
        bias = shift.detach().clone() if self.bias is None else (self.bias + shift).detach()
        self.bias = nn.Parameter(bias, requires_grad=self.router.weight.requires_grad)
