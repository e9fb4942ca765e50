"""Running softmax averages: both algorithms for narrow values and the one for wide values, against a softmax per prefix."""

import pytest
import torch
from ctxblocks_attention import running as _running
from ctxblocks_attention.running import running_average, running_average_wide
from torch import Tensor


def by_softmax(scores: Tensor, values: Tensor) -> Tensor:
    """The definition: one softmax for each prefix."""
    rows = [
        torch.softmax(scores[..., : i + 1], dim=-1) @ values[..., : i + 1, :].double() for i in range(scores.shape[-1])
    ]
    return torch.stack(rows, dim=-2)


@pytest.mark.parametrize("spread", [1.0, 55.0, 65.0, 1e4])
@pytest.mark.parametrize("falls", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_averages_are_softmaxes(spread: float, falls: bool, dtype: torch.dtype) -> None:
    """Scores that rise or fall by less and by more than the level of a single reference, with gradients."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.rand(2, 3, 70, generator=generator, dtype=torch.float64).cumsum(-1)
    scores = (steps / steps.amax() * spread * (-1 if falls else 1)).to(dtype).requires_grad_()
    values = torch.randn(2, 70, 4, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    wanted = by_softmax(scores.double(), values)
    weight = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    slopes = torch.autograd.grad((wanted * weight).sum(), (scores, values))
    unit = torch.finfo(dtype).eps
    for average in (running_average, running_average_wide):
        got = average(scores, values, 8)
        size = (2 + 70) * float(values.detach().abs().amax())  # of the sums, each of up to 70 terms
        assert (got - wanted).abs().max() <= unit * size
        for slope, exact in zip(torch.autograd.grad((got * weight).sum(), (scores, values)), slopes, strict=True):
            assert (slope - exact).abs().max() <= unit * size * 70 * float(weight.abs().amax())


def test_level_scores_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single reference is used if no score exceeds the first by more than 30, however low others are."""
    taken: list[str] = []
    level = _running._level_average
    monkeypatch.setattr(_running, "_level_average", lambda *args: (taken.append("level"), level(*args))[1])
    for last, ways in ((29.0, ["level"]), (-1e4, ["level"]), (31.0, [])):
        taken.clear()
        running_average(torch.tensor([[0.0, last]]), torch.ones(2, 1), 8)
        assert taken == ways
