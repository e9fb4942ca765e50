"""The tolerance of statements that use fast methods of the layer or several blocks, by simulating their errors.

`transfer_generation`, `dynamics`, `factorize` and updates of kept tokens call the fast methods of the layer, and the run with
their updates calls `forward`. The two may differ by the tolerance of "fast against definition", and the difference may grow
in the update and in later blocks. The whole computation therefore runs in float64 with noise: 8 runs in one batch, with
noise of that tolerance on every output of a layer, and noise of the readers' bound on every output of a reader.
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
    """A float64 layer whose outputs have Gaussian noise of the size of the low-precision layer's tolerance."""

    def __init__(self, layer: ContextualLayer, exact: ContextualLayer, dtype: torch.dtype, seed: int) -> None:
        super().__init__(layer.width, layer.context_width)
        self._layers = (layer, exact)  # in a tuple, so that their parameters are not registered here
        self._dtype = dtype
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """`A(C, x)`."""
        return self._with_noise(lambda layer, q, c: layer(q, c), query, context)

    def causal(self, queries: Tensor, context: Tensor) -> Tensor:
        """`A(C_i, q_i)`."""
        return self._with_noise(lambda layer, q, c: layer.causal(q, c), queries, context)

    def prefixes(self, query: Tensor, context: Tensor) -> Tensor:
        """`A(C_i, x)`."""
        return self._with_noise(lambda layer, q, c: layer.prefixes(q, c), query, context)

    def suffixes(self, query: Tensor, context: Tensor) -> Tensor:
        """`A(c_{i+1} … c_n, x)`."""
        return self._with_noise(lambda layer, q, c: layer.suffixes(q, c), query, context)

    def sequence(self, tokens: Tensor) -> Tensor:
        """`A(tokens[:t], tokens[t])` for every `t`."""
        return self._with_noise(lambda layer, t, _: layer.sequence(t), tokens, tokens)

    def _with_noise(
        self, call: Callable[[ContextualLayer, Tensor, Tensor], Tensor], one: Tensor, two: Tensor
    ) -> Tensor:
        """`exact + Eξ` with `E = 8 max|low − exact| + 8u max|exact|`, the maxima over all rows."""
        layer, exact = self._layers
        stored = (one.to(self._dtype), two.to(self._dtype))
        output = call(exact, one, two)
        own = (call(layer, *stored).double() - call(exact, stored[0].double(), stored[1].double())).abs()
        if output.numel() == 0:
            return output
        scale = FAST * (own.max() + round_off(self._dtype) * output.abs().max())
        drawn = torch.randn(output.shape, generator=self._generator, dtype=output.dtype)
        return output + scale * drawn.to(output.device)


def noisy(model: ContextualBlock | Stack, case: Case) -> ContextualBlock | Stack:
    """A float64 copy whose layers and readers have noise of the size of their tolerances in the case's dtype."""
    copied = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(case.seed)
    pairs = zip(model.in_order, copied.in_order, strict=True)
    for number, (low, high) in enumerate(pairs):
        high.layer = _Noisy(low.layer, high.layer, case.dtype, case.seed + number)
        for reader in high.network.readers.values():
            reader.register_forward_hook(_reader_noise(case, generator))
    return copied


def _reader_noise(case: Case, generator: torch.Generator) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    """A hook that adds `(u + d u_acc)(3|W||z| + |b|) ξ`: the readers' bound where both reads have the same size."""

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
    """Compare `program(model, query, context)` with `definition(model, query, context)`, both `(…, d')`, row by row.

    The tolerance is `3 ×` the largest effect of the noise on the float64 program, `+ 3 ×` the error of the definition against
    float64, `+ 4u max|out|`, as for one block. An error in the program does not enlarge it: it is the same with and without
    noise.
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
