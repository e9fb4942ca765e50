"""What is measured in addition to the probes of a block: conditions, gradient descent through a stack, state sizes."""

import pytest
import torch
from ctxblocks_probes.descent import LEARNING_RATE, gradient_alignment
from torch import Tensor

from ctxblocks import dynamics, finetune, registry
from ctxblocks.algebra.solvers import Augmented
from ctxblocks.comparison import CONDITIONS, CompareConfig, compare_config
from ctxblocks.comparison.cells import run_cell
from ctxblocks.comparison.conditions import prompts_under
from ctxblocks.comparison.config import Cell
from ctxblocks.comparison.models import build
from ctxblocks.comparison.series import Key, Measurements
from ctxblocks.registration.tasks import Prompts

SMALL = {"inputs": 2, "examples": 4, "blocks": 2, "width": 8, "steps": 3, "batch": 4, "trials": 6}


def small(*layers: str, **options: object) -> CompareConfig:
    return compare_config("quick", layers, ("linear",), **{**SMALL, **options})


def prompts(tasks: int = 6, inputs: int = 2, examples: int = 4) -> Prompts:
    spec = registry().task("linear")
    return spec.sample(spec.config(inputs=inputs, examples=examples), tasks, 0)


def test_conditions_change_labels_of_the_context_alone() -> None:
    """Queries, targets and inputs stay; clean prompts are the prompts; the same seed gives the same."""
    clean = prompts(200, examples=20)
    for condition in CONDITIONS:
        got, again = (prompts_under(condition, clean, 0.5, 0.2, 3) for _ in "ab")
        assert torch.equal(got.query, clean.query)
        assert torch.equal(got.target, clean.target)
        assert torch.equal(got.context[..., :-1], clean.context[..., :-1])
        assert torch.equal(got.context, again.context)
        assert torch.equal(got.context, clean.context) == (condition == "clean")


def test_noise_has_its_size_and_corruption_its_share() -> None:
    """4000 labels, so that the statistics are within 5 standard errors."""
    clean = prompts(200, examples=20)
    last = clean.context[..., -1]
    added = prompts_under("noise", clean, 0.5, 0.2, 3).context[..., -1] - last
    assert added.std() / last.std() == pytest.approx(0.5, rel=5 / (2 * 4000) ** 0.5)
    wrong = prompts_under("corruption", clean, 0.5, 0.2, 3).context[..., -1]
    changed = wrong != last
    assert float(changed.double().mean()) == pytest.approx(0.2, abs=5 * (0.16 / 4000) ** 0.5)
    assert torch.equal(wrong[changed], last.roll(100, dims=0)[changed])


def slow_alignment(model: torch.nn.Module, batch: Prompts, task: int) -> Tensor:  # (blocks, n + 1)
    """One task by plain autograd on a copy, and dense updates."""
    import copy

    moved = copy.deepcopy(model)
    readers = [next(iter(block.network.readers.values())).weight for block in moved]
    before = [weight.detach().clone() for weight in readers]
    found = dynamics(model, batch.query[task], batch.context[task], solver=Augmented())
    rows = [torch.zeros(len(readers), dtype=torch.float64)]
    for i, token in enumerate(batch.context[task], start=1):
        alone = torch.cat([token[:-1], token.new_zeros(1)])
        loss = 0.5 * (moved(alone)[-1] - token[-1]).square()
        for weight, slope in zip(readers, torch.autograd.grad(loss, readers), strict=True):
            weight.data -= LEARNING_RATE * slope
        pairs = zip(readers, before, found, strict=True)
        rows.append(
            torch.stack(
                [
                    torch.nn.functional.cosine_similarity(
                        (now - then).flatten(), each.updates[i].delta_weight(then).flatten(), dim=0
                    )
                    for now, then, each in pairs
                ]
            )
        )
    return torch.stack(rows, dim=-1).detach()


@pytest.mark.parametrize("layer", ["self-attention", "gru"])
def test_gradient_alignment_is_that_of_plain_descent(layer: str) -> None:
    """For all tasks at once what autograd, a copied model and dense matrices give for each."""
    model, batch = build(small(layer), layer, 0).double(), prompts()
    with torch.no_grad():
        found = dynamics(model, batch.query, batch.context, solver=Augmented())
        got = torch.stack(gradient_alignment(model, batch, found), dim=-2)  # (tasks, blocks, n + 1)
    for task in range(len(batch.target)):
        torch.testing.assert_close(got[task], slow_alignment(model, batch, task), rtol=1e-9, atol=1e-10)
    assert float(got.abs().max()) > 0.05


def test_of_one_block_it_is_the_probe_s() -> None:
    """A stack of one block without maps around it, whose base read does not move: as `finetune` has it."""
    from ctxblocks import MLP, PlainBlock, Stack, create

    torch.manual_seed(0)
    block = PlainBlock(create("self-attention", width=3), MLP(3, 8)).double()
    batch = prompts()
    with torch.no_grad():
        found = dynamics(block, batch.query, batch.context, solver=Augmented())
        (got,) = gradient_alignment(Stack([block]), batch, [found])
    wanted = finetune(block, batch.query, batch.context, LEARNING_RATE).alignment(found.updates)
    torch.testing.assert_close(got, wanted.detach(), rtol=1e-9, atol=1e-10)


def test_state_sizes_of_models() -> None:
    """In every block what the layer keeps, whatever the condition: of attention two vectors a token, of a GRU one in all."""
    config = small("gru", "self-attention")
    for layer, sizes in (("gru", [8.0] * 5), ("self-attention", [16.0 * n for n in range(5)])):
        seen = Measurements(run_cell(config, Cell(layer, "linear", 0))[0])
        for condition in CONDITIONS:
            for block in range(2):
                series = seen.series(Key("linear", layer, "trained", "state-size", condition, block))
                assert series is not None
                assert series.value.tolist() == sizes


def test_the_learning_rate_rises_and_falls() -> None:
    """From a first small step to the highest and down to nearly none."""
    from ctxblocks.comparison.cells import _rise_and_fall

    rates = [_rise_and_fall(step, 100) for step in range(100)]
    assert rates.index(max(rates)) == 4
    assert rates[0] == pytest.approx(0.2, rel=0.01)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 1e-3
