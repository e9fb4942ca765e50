"""Every row of the tables in docs/language-models.md is computed and compared with the printed one."""

import pytest
import torch
from ctxblocks_transformers import transfer_model
from ctxblocks_transformers.wiring.families import FAMILIES
from ctxblocks_transformers.wiring.view import view_of
from lm.table import BOUNDS, EVERY, PAGE, count, measure, printed, wirings
from lm.tiny import prompt, state, tiny
from lm.wrong import WRONG, error_of

from ctxblocks import ArgumentError, FamilySpec

ROWS, ERRORS = printed("families"), printed("wrong")
OTHERWISE = {"granite-shared": {"shared_intermediate_size": 0}, "granite-hybrid": {"num_local_experts": 0}}
"""Options with which the rest of a family's kinds of layers occur."""
SEVERAL = [family for family in FAMILIES if len(family.blocks) > 1]


@pytest.mark.parametrize("model_type", EVERY)
def test_a_row(model_type: str) -> None:
    """Errors of all layers and the logits, at both sites, in both dtypes, are within bounds, computed and printed."""
    row = measure(model_type)
    assert all(error is None or error <= bound for error, bound in zip(row.errors, row.bounds(), strict=True)), row
    assert row.effect > 1e-3
    (cells,) = [cells for cells in ROWS if cells[0].split()[0] == model_type]
    assert tuple(cells[:3]) == row.cells()[:3]
    assert float(cells[3]) == pytest.approx(row.effect, rel=0.5)
    for cell, error, bound in zip(cells[4:], row.errors, row.bounds(), strict=True):
        assert cell == "–" if error is None else float(cell) <= 10 * bound


def test_the_table_is_complete() -> None:
    """A row for every registered model type and for the guessed ones, in order, and their number in the text."""
    assert [cells[0].split()[0] for cells in ROWS] == EVERY
    wirings = {wiring for cells in ROWS for wiring in cells[1].split(", ")}
    assert wirings >= {"pre-norm", "sandwich", "branch-norm", "post-norm", "parallel", "mixer-only"}
    assert count() in PAGE.read_text("utf-8")
    assert len(ROWS) >= 100


@pytest.mark.parametrize("family", SEVERAL, ids=lambda family: family.name)
def test_every_kind_of_layer_is_there(family: FamilySpec) -> None:
    """Each kind that a family states occurs in the tiny model of one of its types."""
    views = [view_of(tiny(model_type), family) for model_type in family.models]
    if family.name in OTHERWISE:
        model = tiny(family.models[0], **OTHERWISE[family.name])
        views.append(view_of(model, family))
        assert transfer_model(model, prompt()).report.relative <= BOUNDS[torch.float64]
    assert {block.spec for view in views for block in view.blocks} == set(family.blocks)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_variant_fails(name: str) -> None:
    """With an error far above round-off, of the printed size."""
    error = error_of(name)
    assert error > 1e-3
    (cells,) = [cells for cells in ERRORS if cells[0] == name]
    assert cells[1] == WRONG[name][0]
    assert float(cells[2]) == pytest.approx(error, rel=0.5)


REFUSED = {
    "bart": "BartForCausalLM does not take their positions",
    "hrm_text": "HrmTextForCausalLM calls a layer 6 times in one pass, needs once",
    "inkling_text": "guessed wrongly: .* off by 'network' where the context does .* off by 'out-proj'",
    "rwkv": "guessed wrongly: .* off by 'network' where the context does .* off by 'out-proj'",
    "xlnet": "guessed wrongly: .* off by 'network' where the context does",
}


@pytest.mark.parametrize("model_type", REFUSED)
def test_models_that_no_update_restores_are_refused(model_type: str) -> None:
    """Positions by count, tied layers, networks that mix tokens: with the reason, and the model is not changed."""
    model = tiny(model_type)
    before = state(model)
    with pytest.raises(ArgumentError, match=REFUSED[model_type]):
        transfer_model(model, prompt())
    assert state(model) == before


@pytest.mark.parametrize("model_type", ["falcon_h1", "jetmoe"])
def test_a_mixer_without_one_projection_has_no_second_site(model_type: str) -> None:
    """Two mixers side by side, and a projection that is a mixture."""
    with pytest.raises(ArgumentError, match=f"needs 'network' for '{model_type}': the mixer of layer 0"):
        transfer_model(tiny(model_type), prompt(), site="out-proj")


@pytest.mark.parametrize("model_type", ["mistral", "gemma2", "gpt_oss", "qwen3"])
@pytest.mark.parametrize("window", [1, 3, 64])
def test_windows_shorter_and_longer_than_the_prompt(model_type: str, window: int) -> None:
    """Tokens outside the window act through the tokens in between; a window of one means no context."""
    model = tiny(model_type, sliding_window=window)
    assert transfer_model(model, prompt()).report.relative <= BOUNDS[torch.float64]


def test_wirings_are_printed_from_their_data() -> None:
    """The page's table of wirings holds the equations of `WIRINGS` and the formulas of their sites."""
    assert [tuple(row) for row in printed("wirings")] == wirings()
