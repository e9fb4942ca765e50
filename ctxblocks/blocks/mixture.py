"""A mixture of gated experts; the router and all experts have the same input `z`."""

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.networks import GatedMLP, LastLayerUpdate, Network
from ctxblocks.blocks.weights import LinearWeights, RankOneChange, last_layer_key
from ctxblocks.numerics import dot, widen


class MixtureOfExperts(Network):
    """`Σ_j g_j(z) E_j(z)`: a softmax router of which the `active` largest gates are kept, and gated experts without biases.

    Every expert is computed for every `z` and multiplied by its gate, which is zero for experts that are not chosen.

    Args:
        width: d.
        hidden: m, the hidden width of each expert.
        experts: number of experts.
        active: number of experts that are used for each `z`.
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
        """`router`, and `experts.j.gate` and `experts.j.up` for every expert `j`."""
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
        """The indices of the experts that are used for `z`, in order of falling gates."""
        logits: Tensor = self.router(z)
        return logits.topk(self.active, dim=-1).indices

    def gates(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, experts)
        """The gate of every expert, zero for experts that are not chosen."""
        logits = self.router(z)
        probabilities = torch.softmax(widen(logits), dim=-1)
        kept, index = probabilities.topk(self.active, dim=-1)
        if self.renormalize:
            kept = kept / kept.sum(-1, keepdim=True)
        return torch.zeros_like(probabilities).scatter(-1, index, kept).to(z.dtype)

    def forward(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None = None,
        last: LastLayerUpdate | None = None,
    ) -> Tensor:  # (…, d)
        """`Σ_j g_j(Pz) (W_down,j + Δb' key_jᵀ) u_j(Pz)`, plus the output bias if there is one."""
        z = z if operator is None else operator.apply(z)
        gates = self.gates(z)
        hidden = torch.stack([expert.hidden(z) for expert in self._experts()], dim=-2)  # (…, experts, m)
        outputs = [expert.down(hidden[..., j, :]) for j, expert in enumerate(self._experts())]
        output = (gates.unsqueeze(-1) * torch.stack(outputs, dim=-2)).sum(-2)
        if last is not None:
            factor = (widen(gates) * dot(last.key, hidden)).sum(-1, keepdim=True)  # (…, 1), 1 at the update's own read
            output = output + last.shift * factor.to(z.dtype)
        return output if self.bias is None else output + self.bias

    def last_key(
        self,
        z: Tensor,  # (…, d)
        operator: ContextOperator | None,
    ) -> tuple[Tensor, Tensor]:  # (…, experts, m), (…)
        """`g_j u_j / Σ_i g_i²‖u_i‖²` for every expert `j`, and a mask that is True where every `g_j u_j` is 0."""
        z = z if operator is None else operator.apply(z)
        hidden = torch.stack([expert.hidden(z) for expert in self._experts()], dim=-2)
        gated = widen(self.gates(z)).unsqueeze(-1) * widen(hidden)
        key, absent = last_layer_key(gated, mixture=True)
        return key.to(z.dtype), absent

    def add_last(self, last: LastLayerUpdate) -> None:
        """`W_down,j ← W_down,j + Δb' key_jᵀ` for every expert `j`, in place."""
        for j, expert in enumerate(self._experts()):
            RankOneChange(LinearWeights.of(expert.down), last.shift, last.key[j]).add()

    def add_output_bias(self, shift: Tensor) -> None:
        """Add `shift (d,)` to the bias after the weighted sum of experts; one is created if there is none."""
        bias = shift.detach().clone() if self.bias is None else (self.bias + shift).detach()
        self.bias = nn.Parameter(bias, requires_grad=self.router.weight.requires_grad)
