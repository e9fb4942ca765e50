"""A run on disk: what it holds, and that it resumes."""

import csv
import html
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import cattrs
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from small_experiments import small_configuration

from ctxblocks.experiments import Configuration, Metrics, Record, reproduce
from ctxblocks.experiments.metrics import SCHEMA
from ctxblocks.experiments.run import train_and_measure
from ctxblocks.report import read_sections

Finished = tuple[Path, Record]
LABELS = {
    2: [
        "training step",
        "training",
        "validation, with context",
        "validation, updated weights, no context",
        "zero predictor",
    ],
    3: ["trained", "control: untrained", "control: context of another task", "i, tokens in the context"],
    4: ["SGD, rate 0.01", "SGD, rate 0.1", "implicit update ΔW(Cᵢ)", "least squares", "alignment of the two updates"],
    5: ["post-norm-stack: losses", "pre-norm-stack: losses", "block", "‖t − t̂‖₂ / ‖t‖₂, mean ± SE"],
    6: ["RNN: losses", "RNN: marginal change", "control: untrained", "control: context of another task"],
}
CURVES = {2: 11, 3: 4, 4: 7, 5: 26, 6: 12}
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from safetensors.numpy import load_file
from small_experiments import small_configuration
from ctxblocks.experiments import reproduce
if __name__ == "__main__":
    reproduce(small_configuration(3, 6, steps=120), Path(sys.argv[1]), workers=1)
"""


def test_a_run_leaves_these_files_and_no_others(finished: Finished, configuration: Configuration) -> None:
    """No temporary file is left."""
    folder, _ = finished
    expected = {"run.json", "metrics.parquet", "report.html"}
    expected |= {f"checkpoints/{model.name}.safetensors" for model in configuration.models}
    expected |= {f"figures/figure-{number}.{kind}" for number in range(2, 7) for kind in ("png", "svg", "csv", "txt")}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == expected


def test_run_json_holds_the_configuration_and_the_verdicts(finished: Finished, configuration: Configuration) -> None:
    """And reads back as the record that the run returned."""
    folder, record = finished
    content = json.loads((folder / "run.json").read_text())
    assert content["status"] == "complete"
    assert cattrs.structure(content["configuration"], Configuration) == configuration
    assert cattrs.structure(content, Record) == record
    assert {claim["verdict"] for claim in content["claims"]} <= {"holds", "does not hold"}
    assert content["seeds"]["run"] == 0
    assert {"python", "torch", "ctxblocks"} <= set(content["versions"])
    for figure in content["figures"]:
        assert all((folder / file).stat().st_size > 0 for file in figure["files"])


def test_metrics_are_one_tidy_table(finished: Finished, configuration: Configuration) -> None:
    """Both predictions of every task stand in it, and their difference is float32's."""
    table = pq.read_table(finished[0] / "metrics.parquet")
    assert table.schema.equals(SCHEMA)
    metrics = Metrics(table)
    for model in configuration.models:
        where = {"model": model.name, "control": "trained"}
        first, second, target = (
            metrics.array({**where, "quantity": name}, "task")
            for name in ("prediction with context", "prediction of updated weights", "target")
        )
        assert first.shape == (8,)
        assert np.abs(first - second).max() < 1e-5
        assert np.abs(first - target).max() > 1e-3
    assert metrics.array(
        {"quantity": "marginal change", "model": "rnn", "control": "untrained"}, "task", "n"
    ).shape == (8, 12)
    assert metrics.array({"quantity": "alignment", "lr": 0.1}, "task", "n").shape == (8, 13)


@pytest.mark.parametrize("number", range(2, 7))
def test_figures_show_what_they_should(number: int, finished: Finished) -> None:
    """The SVG's texts hold the labels, each curve of the CSV has points, and the PNG is a picture of some size."""
    stem = finished[0] / "figures" / f"figure-{number}"
    texts = [
        text
        for element in ET.parse(f"{stem}.svg").iter("{http://www.w3.org/2000/svg}text")
        for text in element.itertext()
    ]
    assert set(LABELS[number]) <= set(texts)
    with Path(f"{stem}.csv").open() as file:
        rows = list(csv.DictReader(file))
    curves = Counter((row["panel"], row["curve"]) for row in rows)
    assert len(curves) == CURVES[number]
    assert min(curves.values()) >= 2
    assert all(np.isfinite(float(row["x"])) for row in rows)
    assert any(float(row["y"]) != float(rows[0]["y"]) for row in rows)
    picture = Path(f"{stem}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_captions_name_settings_seed_and_verdicts(finished: Finished) -> None:
    """And say who has barely learned."""
    folder, record = finished
    for figure in record.figures:
        assert (folder / "figures" / f"figure-{figure.number}.txt").read_text() == figure.caption + "\n"
        assert "seed 0" in figure.caption
        assert "n = 12 examples" in figure.caption
        assert "40 steps" in figure.caption
        for claim in record.claims:
            said = f"{claim.statement} ({claim.criterion}): {claim.verdict}, measured {claim.measured}."
            assert (said in figure.caption) == (claim.figure == figure.number)
    assert "rnn has barely learned: validation loss" in record.figures[-1].caption


def test_the_report_is_self_contained(finished: Finished) -> None:
    """No address is loaded, no two elements share a name, and claims, captions and figures are there."""
    folder, record = finished
    page = (folder / "report.html").read_text()
    names = re.findall(r'\sid="([^"]+)"', page)
    assert len(names) == len(set(names))
    loads = re.findall(r'\s(?:xlink:href|href|src)="([^"]*)"', page)
    assert loads
    assert all(value.startswith("#") and value[1:] in names for value in loads)
    text = html.unescape(page)
    assert all(claim.statement in text for claim in record.claims)
    assert all(figure.caption in text for figure in record.figures)
    panels = sum(len(figure.panels) for figure in read_sections([folder])[0].figures)
    assert page.count('<div class="panel">') == panels == 20


def test_a_complete_run_written_again_is_the_same_bytes(tmp_path: Path) -> None:
    """Without a step of training: pictures and report hold no dates."""
    config = small_configuration(3)
    steps: list[int] = []
    record = reproduce(config, tmp_path, 1, lambda name, step, total: steps.append(step))
    assert steps == list(range(1, 41))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert reproduce(config, tmp_path, 1, lambda name, step, total: steps.append(step)) == record
    assert len(steps) == 40
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_killed_run_is_resumed_and_ends_in_the_same_numbers(tmp_path: Path) -> None:
    """Killed after its first checkpoint; two workers resume it, with the numbers of one."""
    script, folder, whole = tmp_path / "script.py", tmp_path / "run", tmp_path / "whole"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(folder), str(Path(__file__).parent)]
    killed = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 300
    while not list(folder.glob("checkpoints/*.safetensors")):
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    histories = [load_file(path)["history"] for path in folder.glob("checkpoints/*.safetensors")]
    assert min(history[-1, 0] for history in histories) < 120
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    reproduce(small_configuration(3, 6, steps=120), folder, workers=2)
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"
    whole.mkdir()
    expected = train_and_measure(small_configuration(3, 6, steps=120), whole, 1, lambda event: None)
    found = pq.read_table(folder / "metrics.parquet")
    assert found.drop_columns("value").equals(expected.drop_columns("value"))
    assert np.array_equal(found["value"].to_numpy(), expected["value"].to_numpy(), equal_nan=True)
    for path in whole.iterdir():
        one, other = load_file(path), load_file(folder / "checkpoints" / path.name)
        assert one.keys() == other.keys()
        assert all(np.array_equal(value, other[name], equal_nan=True) for name, value in one.items())
