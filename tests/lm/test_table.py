"""The tables of docs/language-models.md hold: every row is computed and compared with what is printed."""

import pytest
from ctxblocks_transformers._families import FAMILIES
from ctxblocks_transformers._view import view_of
from lm.table import COMPUTES_IN_SINGLE, EVERY, measure, printed
from lm.tiny import tiny
from lm.wrong import WRONG, error_of

from ctxblocks import FamilySpec

ROWS, ERRORS = printed("families"), printed("wrong")
SEVERAL = [family for family in FAMILIES if len(family.blocks) > 1]


@pytest.mark.parametrize("model_type", EVERY)
def test_a_row(model_type: str) -> None:
    """Errors of all layers and the logits, at both sites, in both dtypes, are within bounds, here and in print."""
    row = measure(model_type)
    assert all(error <= bound for error, bound in zip(row.errors, row.bounds(), strict=True)), row
    assert row.effect > 1e-3
    (cells,) = [cells for cells in ROWS if cells[0].split()[0] == model_type]
    assert tuple(cells[:3]) == row.cells()[:3]
    assert float(cells[3]) == pytest.approx(row.effect, rel=0.5)
    assert all(float(cell) <= 10 * bound for cell, bound in zip(cells[4:], row.bounds(), strict=True))


def test_the_table_is_complete() -> None:
    """A row for every registered model type and for the guessed ones, in order, and what the page says of their number."""
    assert [cells[0].split()[0] for cells in ROWS] == EVERY
    assert set(EVERY) >= COMPUTES_IN_SINGLE
    wirings = {wiring for cells in ROWS for wiring in cells[1].split(", ")}
    assert wirings >= {"pre-norm", "sandwich", "branch-norm", "post-norm", "parallel", "mixer-only"}
    assert len(ROWS) >= 60


@pytest.mark.parametrize("family", SEVERAL, ids=lambda family: family.name)
def test_every_kind_of_layer_is_there(family: FamilySpec) -> None:
    """Each kind that a family states occurs in the tiny model of one of its types."""
    views = [view_of(tiny(model_type), family) for model_type in family.models]
    assert {block.spec for view in views for block in view.blocks} == set(family.blocks)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_variant_fails(name: str) -> None:
    """By an error that no round-off explains, of the printed size."""
    error = error_of(name)
    assert error > 1e-3
    (cells,) = [cells for cells in ERRORS if cells[0] == name]
    assert cells[1] == WRONG[name][0]
    assert float(cells[2]) == pytest.approx(error, rel=0.5)
