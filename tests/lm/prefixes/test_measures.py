"""The measures of a trace: those of dense matrices, of the probes, and under their present names."""

from types import SimpleNamespace

import pytest
import torch
from ctxblocks_transformers import trace
from ctxblocks_transformers.prefixes.measures import measure
from lm.tiny import prompt, tiny

from ctxblocks import ArgumentError, ContextOperator, ImplicitUpdate, registry


def test_measures_are_those_of_dense_matrices() -> None:
    """Norm, step, angle and determinant against the weights themselves, with several weights."""
    generator = torch.Generator().manual_seed(0)
    direction, key, shift = torch.randn(3, 9, 5, generator=generator, dtype=torch.float64)
    weights = [torch.randn(*shape, 5, generator=generator, dtype=torch.float64) for shape in ((7,), (2, 3))]
    found = measure(ImplicitUpdate(ContextOperator(direction, key), shift), weights)
    stack = torch.cat([weight.reshape(-1, 5) for weight in weights])
    dense = torch.einsum("md,nd,ne->nme", stack, direction, key)
    steps, flat = dense.diff(dim=0), dense.flatten(1)
    torch.testing.assert_close(found["norm"], flat.norm(dim=-1))
    torch.testing.assert_close(found["marginal-change"], steps.flatten(1).norm(dim=-1))
    torch.testing.assert_close(found["alignment"], torch.cosine_similarity(flat[1:], flat[:-1]))
    torch.testing.assert_close(found["determinant"], torch.linalg.det(ContextOperator(direction, key).dense()))
    torch.testing.assert_close(found["shift"], shift.norm(dim=-1))
    torch.testing.assert_close(found["marginal_shift"], shift.diff(dim=0).norm(dim=-1))


def test_measures_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of images that are held at a time makes no difference."""
    generator = torch.Generator().manual_seed(1)
    direction, key = torch.randn(2, 9, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    update = ImplicitUpdate(ContextOperator(direction, key))
    whole = measure(update, [weight])
    monkeypatch.setattr("ctxblocks.algebra.lengths.LEAST", 1)
    for images in (1, 14, 21, 56, 63):
        monkeypatch.setattr("ctxblocks.algebra.lengths.IMAGES", images)
        for name, values in measure(update, [weight]).items():
            torch.testing.assert_close(values, whole[name])


@pytest.mark.parametrize("size", [1e-24, 1.0, 1e24])
def test_a_trace_and_the_probes_measure_the_same(size: float) -> None:
    """In float32, whose squares of such sizes under- and overflow: the norms are those of float64, and none is zero."""
    generator = torch.Generator().manual_seed(2)
    direction, key = torch.randn(2, 9, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    exact = measure(ImplicitUpdate(ContextOperator(direction * size, key)), [weight])
    update = ImplicitUpdate(ContextOperator((direction * size).float(), key.float()), per_token=True)
    traced = measure(update, [weight.float()])
    course = SimpleNamespace(updates=update, weights=lambda reader=None: [weight.float()])
    known = registry()
    for name in ("norm", "marginal-change", "alignment"):
        probed = torch.as_tensor(known.probe(name).measure(course))
        assert probed.shape == traced[name].shape
        assert bool((probed != 0).all())
        torch.testing.assert_close(traced[name], probed, rtol=1e-5, atol=0)
        torch.testing.assert_close(traced[name].double(), exact[name], rtol=1e-4, atol=0)


def test_a_measure_that_was_renamed() -> None:
    """The earlier name is refused with the present one."""
    with pytest.raises(ArgumentError, match="measure: got 'marginal', needs 'marginal-change', its present name"):
        trace(tiny("llama"), prompt(3)).measure("marginal")
