"""Recurrences and exponentials of the public numerics, against their definitions."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from ctxblocks.numerics import accumulator, falling_exp, falling_exp_floor, linear_recurrence, normal_exp, widen


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(0, 40),
    batch=st.sampled_from([(), (2,), (2, 3)]),
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_a_recurrence_is_its_steps(n: int, batch: tuple[int, ...], seed: int, dtype: torch.dtype) -> None:
    """`h_t = decay_t h_{t−1} + drive_t`, step by step; decays below 1 do not amplify the rounding of a step."""
    generator = torch.Generator().manual_seed(seed)
    decay = torch.rand(*batch, n, 3, generator=generator, dtype=torch.float64).to(dtype)
    drive = torch.randn(*batch, n, 3, generator=generator, dtype=torch.float64).to(dtype)
    start = torch.randn(*batch, 3, generator=generator, dtype=torch.float64).to(dtype)
    rows = linear_recurrence(decay, drive, start)
    assert rows.shape == drive.shape
    assert rows.dtype == dtype
    state, largest = start.double(), start.double().abs().max()
    for t in range(n):
        state = decay[..., t, :].double() * state + drive[..., t, :].double()
        largest = torch.maximum(largest, state.abs().max())
        bound = 4 * (t + 1) * torch.finfo(dtype).eps * (largest + drive.abs().max() * (t + 1))
        assert (rows[..., t, :] - state).abs().max() <= bound


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_exponentials_are_normal_numbers(dtype: torch.dtype) -> None:
    """Far below zero both are positive normal numbers; elsewhere they are `exp`, `falling_exp` at most 1."""
    x = torch.tensor([-1e9, falling_exp_floor(dtype) - 1, -1.0, 0.0, 5.0], dtype=dtype)
    assert (falling_exp(x)[:2] == torch.tensor(falling_exp_floor(dtype), dtype=dtype).exp()).all()
    assert torch.equal(falling_exp(x)[2:], x[2:].clamp(max=0).exp())
    assert normal_exp(x)[0] >= torch.finfo(dtype).tiny * (1 - 1e-4)
    assert torch.equal(normal_exp(x)[1:], x[1:].exp())


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_types_accumulate_in_float32(dtype: torch.dtype, wide: torch.dtype) -> None:
    """All other types accumulate in themselves."""
    assert accumulator(dtype) == wide
    assert widen(torch.ones(1, dtype=dtype)).dtype == wide
