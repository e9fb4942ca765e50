"""The page of runs: what it says is what the folders hold, whatever state they are in."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from experiments.small_experiments import small_configuration
from report.runs import compared, small_comparison

from ctxblocks import ArgumentError
from ctxblocks.cli import main
from ctxblocks.comparison import summarize
from ctxblocks.experiments import reproduce
from ctxblocks.report import read_sections


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete comparison."""
    made = tmp_path_factory.mktemp("runs") / "comparison"
    compared(made)
    return made


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """One to break."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_the_table_is_the_summary_s(folder: Path) -> None:
    """Errors, controls, baselines and sizes as `summarize` gives them."""
    (section,) = read_sections([folder])
    lines = summarize(pq.read_table(folder / "metrics.parquet"), 2, [8])
    rows = [row for table in section.tables for row in table.rows]
    assert [(row[0], row[2].value, row[2].error, row[3].value, row[4], row[6]) for row in rows] == [
        (line.layer, line.value, line.error, line.untrained, line.baseline, line.parameters) for line in lines
    ]
    assert len(rows) == 4
    assert section.missing == ()
    assert section.versions == json.loads((folder / "run.json").read_text())["origin"]["versions"]


def test_every_curve_is_shown_with_its_controls(folder: Path) -> None:
    """Errors with the untrained twin and the best baseline, everything else with the untrained twin."""
    (section,) = read_sections([folder])
    assert {figure.name for figure in section.figures} == {
        f"{kind}--{task}"
        for kind in ("error", "by-layer", "robustness", "effective-rank", "marginal-change", "norm", "state-size")
        for task in ("linear", "decision-tree")
    }
    for figure in section.figures:
        for panel in figure.panels:
            controls = {curve.control for curve in panel.curves}
            if figure.name.startswith(("by-layer", "robustness")):
                assert controls == {"trained", "untrained", "baseline"}
            elif not figure.name.startswith(("error", "state-size")):
                assert controls == {"trained", "untrained"}


def test_curves_are_the_means_over_seeds(folder: Path) -> None:
    """By hand from the rows, and the best baseline is the one with the least error with all examples."""
    (section,) = read_sections([folder])
    figure = next(figure for figure in section.figures if figure.name == "by-layer--decision-tree")
    rows = [r for r in pq.read_table(folder / "metrics.parquet").to_pylist() if r["task"] == "decision-tree"]
    rows = [r for r in rows if r["probe"] == "in-context-error" and r["condition"] == "clean"]
    panel = next(panel for panel in figure.panels if panel.title == "gru")
    curve = next(curve for curve in panel.curves if curve.control == "untrained")
    values = np.array(
        [[r["value"] for r in rows if (r["layer"], r["control"], r["seed"]) == ("gru", "untrained", s)] for s in (0, 1)]
    )
    np.testing.assert_allclose(curve.y, values.mean(0))
    np.testing.assert_allclose(curve.error, values.std(0, ddof=1) / np.sqrt(2))
    ends: dict[str, list[float]] = {}
    for r in rows:
        if not r["layer"] and r["n"] == 8:
            ends.setdefault(r["control"], []).append(r["value"])
    best = min(ends, key=lambda name: np.mean(ends[name]))
    assert next(curve.label for curve in panel.curves if curve.control == "baseline") == best


def test_exact_baselines_are_drawn_below_everything_else(folder: Path) -> None:
    """At a tenth of the smallest other value; every other point is that of the table."""
    (section,) = read_sections([folder])
    figure = next(figure for figure in section.figures if figure.name == "error--linear")
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    for panel in figure.panels:
        values = np.concatenate([curve.y for curve in panel.curves])
        exact = next(curve for curve in panel.curves if curve.label == "least-squares").y
        assert exact[-1] == pytest.approx(values[values > exact[-1]].min() / 10)
        ridge = next(curve for curve in panel.curves if curve.label == "ridge").y
        where = ("linear", "ridge", "clean", 8)
        ends = [r["value"] for r in rows if (r["task"], r["control"], r["condition"], r["n"]) == where]
        assert ridge[-1] == pytest.approx(np.mean(ends))


def test_a_run_is_shown_without_its_plugins(copy: Path) -> None:
    """A probe that no plugin provides any more is described as it was when it was measured."""
    text = (copy / "run.json").read_text().replace('"norm"', '"gone"').replace("‖ΔW_i‖, Frobenius and", "its size,")
    (copy / "run.json").write_text(text)
    for cell in (copy / "cells").iterdir():
        table = pq.read_table(cell)
        names = ["gone" if name == "norm" else name for name in table["probe"].to_pylist()]
        place = table.column_names.index("probe")
        pq.write_table(table.set_column(place, "probe", pa.array(names)), cell)
    (section,) = read_sections([copy])
    figure = next(figure for figure in section.figures if figure.name == "gone--linear")
    assert figure.caption.startswith("gone: its size, spectral, of the query's update in every block;")
    assert any(row[0] == "gone" for table in section.details for row in table.rows)


def test_an_unfinished_comparison_says_what_is_missing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And shows the rest; with no cell at all, the settings."""
    (copy / "cells" / "gru--linear--1.parquet").unlink()
    document = json.loads((copy / "run.json").read_text())
    document |= {"status": "incomplete", "failed": {"self-attention--linear--1": "RuntimeError: no luck"}}
    (copy / "run.json").write_text(json.dumps(document))
    (copy / "cells" / "self-attention--linear--1.parquet").unlink()
    assert main(["report", str(copy), "--out", str(copy / "new.html")]) == 0
    said = capsys.readouterr().out
    assert "is not complete, missing: gru--linear--1; self-attention--linear--1: failed, RuntimeError: no luck" in said
    page = (copy / "new.html").read_text()
    assert "This run is not complete." in page
    assert "<li>gru--linear--1</li>" in page
    assert "linear: errors in context" in page
    for cell in (copy / "cells").iterdir():
        cell.unlink()
    (section,) = read_sections([copy])
    assert len(section.missing) == len(small_comparison().cells())
    assert section.figures == section.tables == ()
    assert ("steps", "6") in section.settings


def test_an_unfinished_reproduction_shows_its_losses(tmp_path: Path, finished: tuple[Path, object]) -> None:
    """Steps done and to be done for every model, and the losses so far."""
    run = Path(shutil.copytree(finished[0], tmp_path / "run"))
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**document, "status": "running", "claims": [], "figures": []}))
    checkpoint = run / "checkpoints" / "block.safetensors"
    tensors = safetensors.torch.load(checkpoint.read_bytes())
    tensors["history"] = tensors["history"][:2].clone()
    checkpoint.write_bytes(safetensors.torch.save(tensors))
    (run / "checkpoints" / "rnn.safetensors").unlink()
    (section,) = read_sections([run])
    assert section.missing[0] == "block: 10 of 40 steps are done"
    assert section.missing[1] == "rnn: 0 of 40 steps are done"
    assert section.missing[-1] == "the measurements, Figures 2, 3, 4, 5, 6 and their claims"
    (figure,) = section.figures
    assert [panel.title for panel in figure.panels] == ["block", "post-norm-stack", "pre-norm-stack"]
    torch.testing.assert_close(torch.tensor(figure.panels[0].curves[1].y), tensors["history"][:, 2])
    checkpoint.write_bytes(b"no")
    with pytest.raises(ArgumentError, match=r"block\.safetensors: cannot be read .*delete it"):
        read_sections([run])


def test_several_runs_on_one_page(folder: Path, finished: tuple[Path, object], tmp_path: Path) -> None:
    """Each a section; no name twice; well-formed but for what HTML alone allows."""
    assert main(["report", str(folder), str(finished[0]), "--out", str(tmp_path / "both.html"), "--json"]) == 0
    page = (tmp_path / "both.html").read_text()
    names = re.findall(r'\sid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert page.count('<section class="run"') == 2
    assert "2 runs of ctxblocks" in page
    for figure in (2, 3, 4, 5, 6):
        assert f'id="run-1-figure-{figure}"' in page
    targets = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)
    assert {one or other for one, other in targets} <= set(names)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", None, "holds no run.json, needs a folder that reproduce or compare wrote"),
        ("run.json", "{", "run.json: is no run of this version (JSONDecodeError"),
        (
            "run.json",
            '{"kind": "song"}',
            "run.json: is no run of this version (ArgumentError: section: got 'song', needs one of comparison, reproduction",
        ),
        (
            "run.json",
            '{"kind": "comparison", "format": 1, "configuration": {}}',
            "run.json: is a comparison of format 1, needs a comparison of format 2",
        ),
        (
            "run.json",
            '{"kind": "comparison", "format": 2, "configuration": {}}',
            "run.json: is not that of a whole comparison (ClassValidationError)",
        ),
        ("run.json", '{"kind": "reproduction", "format": 9}', "run.json: is a reproduction of format 9, needs"),
        ("cells/gru--linear--0.parquet", "PAR1", "gru--linear--0.parquet: cannot be read"),
    ],
)
def test_damaged_and_foreign_runs(
    file: str, content: str | None, message: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the file, exit code 2, and the old page stays."""
    before = (copy / "report.html").read_bytes()
    if content is None:
        (copy / file).unlink()
    else:
        (copy / file).write_text(content)
    assert main(["report", str(copy)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert (copy / "report.html").read_bytes() == before


def test_damaged_metrics_of_a_reproduction(tmp_path: Path) -> None:
    """Named, too."""
    reproduce(small_configuration(3, steps=20), tmp_path, workers=1)
    (tmp_path / "metrics.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArgumentError, match=r"metrics\.parquet: cannot be read"):
        read_sections([tmp_path])


def test_no_run_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Says what is needed."""
    assert main(["report"]) == 2
    assert "needs the folder of at least one run" in capsys.readouterr().err
