"""The tolerance where a statement meets a fast method, or runs through several blocks.

`transfer_generation`, `dynamics`, `factorize` and patched tokens read the layer by its fast methods, and the run with their
updates reads it by `forward`. The two differ by what the rule "fast against definition" allows, and the difference grows
on its way through the update and the blocks that follow. So the whole program is run in float64, with every call of a
layer off by that rule and every reader's product by the readers' bound, 8 times side by side.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.blocks.stack import Stack
from ctxblocks.exactness.tolerance import DRAWS, FAST, SPREAD, Comparison, precision, round_off, within
from ctxblocks.testing.cases import Case


class _Noisy(ContextualLayer):
    """A layer in float64, each result off by Gaussian noise of what its low-precision twin may be off by."""

    def __init__(self, layer: ContextualLayer, exact: ContextualLayer, dtype: torch.dtype, seed: int) -> None:
        super().__init__(layer.width, layer.context_width)
        self._twins = (layer, exact)  # in a tuple, so that neither's parameters become this module's
        self._dtype = dtype
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """`A(C, x)`."""
        return self._off(lambda layer, q, c: layer(q, c), query, context)

    def causal(self, queries: Tensor, context: Tensor) -> Tensor:
        """`A(C_i, q_i)`."""
        return self._off(lambda layer, q, c: layer.causal(q, c), queries, context)

    def prefixes(self, query: Tensor, context: Tensor) -> Tensor:
        """`A(C_i, x)`."""
        return self._off(lambda layer, q, c: layer.prefixes(q, c), query, context)

    def suffixes(self, query: Tensor, context: Tensor) -> Tensor:
        """`A(c_{i+1} … c_n, x)`."""
        return self._off(lambda layer, q, c: layer.suffixes(q, c), query, context)

    def sequence(self, tokens: Tensor) -> Tensor:
        """Every token after those before it."""
        return self._off(lambda layer, t, _: layer.sequence(t), tokens, tokens)

    def _off(self, call: Callable[[ContextualLayer, Tensor, Tensor], Tensor], one: Tensor, two: Tensor) -> Tensor:
        """`exact + Eξ`, `E = 8 max|low − exact| + 8u max|exact|` over the rows of the call."""
        layer, exact = self._twins
        stored = (one.to(self._dtype), two.to(self._dtype))
        output = call(exact, one, two)
        own = (call(layer, *stored).double() - call(exact, stored[0].double(), stored[1].double())).abs()
        if output.numel() == 0:
            return output
        scale = FAST * (own.max() + round_off(self._dtype) * output.abs().max())
        drawn = torch.randn(output.shape, generator=self._generator, dtype=output.dtype)
        return output + scale * drawn.to(output.device)


def noisy(model: ContextualBlock | Stack, case: Case) -> ContextualBlock | Stack:
    """A float64 copy whose layers and readers are off by what they may be off by in the dtype of the case."""
    copied = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(case.seed)
    pairs = zip(model.in_order, copied.in_order, strict=True)
    for number, (low, high) in enumerate(pairs):
        high.layer = _Noisy(low.layer, high.layer, case.dtype, case.seed + number)
        for reader in high.network.readers.values():
            reader.register_forward_hook(_reader_noise(case, generator))
    return copied


def _reader_noise(case: Case, generator: torch.Generator) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    """`(u + d u_acc)(3|W||z| + |b|) ξ` on a reader's output: the readers' bound where both reads have the size of this one."""

    def hook(reader: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        assert isinstance(reader, nn.Linear)
        bound = 3 * inputs[0].detach().abs() @ reader.weight.detach().abs().mT
        bound = bound if reader.bias is None else bound + reader.bias.detach().abs()
        drawn = torch.randn(output.shape, generator=generator, dtype=output.dtype).to(output.device)
        return output + precision(case.dtype, case.device).of_dot(reader.in_features) * bound * drawn

    return hook


Program = Callable[[ContextualBlock | Stack, Tensor, Tensor], Tensor]


@torch.no_grad()
def simulate(
    case: Case,
    model: ContextualBlock | Stack,
    program: Program,
    definition: Program,
    query: Tensor,  # (…, d)
    context: Tensor,  # (…, n, d_context)
) -> Comparison:
    """`program(model, query, context)` against `definition(…)`, both `(…, d')` with rows of errors over the last axis.

    The tolerance is `3 ×` what the noise changes in the float64 program at most, `+ 3 ×` the definition's own error against
    float64, `+ 4u max|out|`, as for one block. A program that is wrong is no less wrong in float64, and adds nothing to it.
    """
    got, wanted = program(model, query, context), definition(model, query, context)
    exact = copy.deepcopy(model).double()
    given = query.double(), context.double()
    wide = [value.expand(DRAWS, *value.shape) for value in given]
    spread = (program(noisy(model, case), *wide) - program(exact, *given)).abs().amax(-1).amax(0)
    own = (wanted.double() - definition(exact, *given)).abs().amax(-1)
    size = wanted.double().abs().amax(-1)
    tolerance = SPREAD * (spread + own) + 4 * round_off(case.dtype) * size
    return within((got.double() - wanted.double()).abs().amax(-1), tolerance)
