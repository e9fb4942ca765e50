"""Running softmax averages of scores that spread far: every prefix keeps its digits, whichever tokens dominate."""

import pytest
import torch
from ctxblocks_attention.running import running_average, running_average_wide
from ctxblocks_attention.windowed import windowed_average
from torch import Tensor

DRAWS = 60
SPREADS = (1.0, 29.0, 31.0, 59.0, 61.0, 87.0, 103.0, 300.0, 1e4)
LENGTHS = (1, 5, 31, 33, 64, 65, 130)


def scores_of(spread: float, kind: str, n: int, generator: torch.Generator) -> Tensor:  # (2, n), float64
    """Scores up to `spread` apart: later tokens dominate, earlier ones do, one does, or none in order."""
    draw = torch.rand(2, n, dtype=torch.float64, generator=generator) * spread
    if kind == "late":
        return draw.sort(-1).values
    if kind == "early":
        return draw.sort(-1, descending=True).values
    if kind == "dip":  # the first token is far below a later one, and the tokens between are further below
        draw[:, 1:] -= spread
        draw[:, -1] = draw[:, 0] + spread * 0.99
    return draw


def by_definition(scores: Tensor, values: Tensor, window: int) -> Tensor:  # (r, n, d)
    """The softmax average over the first token and the last `window` of the others, row by row."""
    rows = []
    for i in range(scores.shape[-1]):
        seen = [0, *range(max(1, i - window + 1), i + 1)]
        rows.append(torch.softmax(scores[:, seen], -1) @ values[seen])
    return torch.stack(rows, dim=-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["late", "early", "dip", "any"])
@pytest.mark.parametrize("form", ["narrow", "wide", "windowed"])
def test_every_prefix_keeps_its_digits(form: str, kind: str, dtype: torch.dtype) -> None:
    """Within the round-off of two sums of `n` terms, relative to the largest value, from the same stored scores."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for draw in range(DRAWS):
        n, width = max(LENGTHS[draw % len(LENGTHS)], 5 if form == "windowed" else 1), 1 + draw % 4
        scores = scores_of(SPREADS[draw % len(SPREADS)], kind, n, generator).to(dtype)
        values = torch.randn(n, width, dtype=torch.float64, generator=generator).to(dtype)
        window = 4 if form == "windowed" else n
        right = by_definition(scores.double(), values.double(), window)
        call = {
            "narrow": lambda s, v: running_average(s, v, 16),
            "wide": lambda s, v: running_average_wide(s, v, 8),
            "windowed": lambda s, v: windowed_average(s, v, 4),
        }[form]
        bound = torch.finfo(dtype).eps * (2 + n) * values.double().abs().max()
        worst = max(worst, float((call(scores, values) - right).abs().max() / bound))
    assert worst <= 1


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e30), (torch.float64, 1e200)])
@pytest.mark.parametrize("below", [400.0, 1e4, 1e30])
@pytest.mark.parametrize("form", ["narrow", "level", "wide", "windowed"])
def test_tokens_without_weight_do_not_count(form: str, below: float, dtype: torch.dtype, size: float) -> None:
    """A token so far below the others that its weight is 0 leaves no trace, however large its value."""
    generator = torch.Generator().manual_seed(0)
    below = max(below, 2000.0) if dtype == torch.float64 else below
    scores = torch.rand(2, 40, dtype=torch.float64, generator=generator).to(dtype)
    values = torch.randn(40, 2, dtype=torch.float64, generator=generator).to(dtype)
    scores[:, -1] += 50.0 if form == "narrow" else 0.0  # above LEVEL
    scores[:, 10], values[10] = -below, size
    window = 4 if form == "windowed" else 40
    right = by_definition(scores.double(), values.double(), window)
    got = {"wide": running_average_wide, "windowed": windowed_average}.get(form, running_average)(
        scores, values, {"wide": 8, "windowed": 4}.get(form, 16)
    )
    values[10] = 0.0
    assert (got - right).abs().max() <= torch.finfo(dtype).eps * 42 * values.double().abs().max()
