"""A comparison without probes, with probes of either length, and with processes that die."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison.test_compare import SMALL, small, undrawn

from ctxblocks import Probe, hookimpl, registry
from ctxblocks.comparison import CompareConfig, compare_config
from ctxblocks.comparison.cells import run_cell
from ctxblocks.comparison.claims import check
from ctxblocks.comparison.config import STANDARD, Cell
from ctxblocks.comparison.series import Measurements
from ctxblocks.comparison.summary import summarize
from ctxblocks.registration.registry import Registry


def test_without_the_plugin_of_probes(tmp_path: Path) -> None:
    """Errors, parameters and timings; the absent probes are named, and the claim that needs one is not measured."""
    sizes = ["--inputs", "2", "--examples", "4", "--blocks", "1", "--steps", "4", "--jobs", "1", "--device", "cpu"]
    command = ["compare", "--layers", "gru", "--out", str(tmp_path), *sizes]
    script = (
        "import sys; from ctxblocks.cli import main; code = main(sys.argv[1:]); "
        "assert 'ctxblocks_probes' not in sys.modules; sys.exit(code)"
    )
    environment = {**os.environ, "CTXBLOCKS_BLOCK": "probes"}
    run = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, env=environment)
    assert (run.returncode, run.stderr) == (0, "")
    absent = f"since no installed plugin provides these probes: {', '.join(STANDARD)}."
    assert absent in run.stdout
    reading = (
        "import json, sys; from pathlib import Path; from ctxblocks.report import read_sections; "
        "from ctxblocks.comparison import read_comparison; out = Path(sys.argv[1]); (s,) = read_sections([out]); "
        "c = read_comparison(out); print(json.dumps([{e.statement: e.verdict for e in s.statements}, s.notes, s.missing, "
        "sorted({r['probe'] for r in c.table.to_pylist()}), sorted({r['probe'] for r in c.timings.to_pylist()})]))"
    )
    read = subprocess.run(
        [sys.executable, "-c", reading, str(tmp_path)], capture_output=True, text=True, env=environment, check=True
    )
    verdicts, notes, missing, probes, timings = json.loads(read.stdout)
    assert verdicts["the longer the context, the less one more token changes the weights"] == "not measured"
    assert set(verdicts.values()) > {"not measured"}
    assert len(notes) == 1
    assert absent in notes[0]
    assert missing == []
    assert probes == ["in-context-error", "parameters"]
    assert timings == ["seconds-of-dynamics", "seconds-of-forward", "seconds-of-measuring", "seconds-per-step"]
    assert absent in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "run.json").read_text())["origin"]["absent"] == list(STANDARD)


def test_the_claim_that_needs_a_probe(tmp_path: Path) -> None:
    """With the marginal change it has a verdict, with other probes alone it has none."""
    for probes, verdicts in ((("marginal-change",), {"holds", "does not hold"}), (("norm",), {"not measured"})):
        found = undrawn(small(probes=probes), tmp_path / probes[0], 1)
        claims = list(check(found, Measurements(found.table, found.config.trials)))
        (claim,) = [claim for claim in claims if "changes the weights" in claim.statement]
        assert claim.verdict in verdicts
        assert found.notes == ()


def test_the_standard_probes_are_those_of_the_plugin() -> None:
    """All but the error in context, which a comparison measures itself."""
    assert {*STANDARD, "in-context-error"} == set(registry().probes)


@pytest.fixture
def with_probes(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with three more probes: of `n` values, of `n + 1`, and of a whole stack."""

    def steps(updates: Any) -> torch.Tensor:
        return torch.arange(updates.updates.operator.key.shape[-2]).expand(12, -1).double() ** -0.5

    def stack(model: Any, prompts: Any, dynamics: Any) -> list[torch.Tensor]:
        return [torch.full((12, 5), float(block)) for block, _ in enumerate(dynamics)]

    probes = [
        Probe(name="short", summary="", measure=lambda each: steps(each)[..., 1:], first=1, exponent="short-exponent"),
        Probe(name="long", summary="", measure=steps, first=1, exponent="long-exponent"),
        Probe(name="whole", summary="", measure=steps, stack=stack),
    ]
    shared = Registry()
    for name, source in registry().plugins.items():
        shared.register(source, name)
    plugin = type("Mine", (), {})()
    plugin.ctxblocks_probes = hookimpl(lambda: probes)
    shared.register(plugin, "mine")
    monkeypatch.setattr("ctxblocks.registration.registry._shared", shared)
    return shared


def test_measurements_of_either_length(with_probes: Registry) -> None:
    """`n` values count from 1 and `n + 1` from 0; both have the same exponent, from the first token on."""
    config = compare_config("quick", ("gru",), ("linear",), ("short", "long", "whole"), **SMALL)
    rows = run_cell(config, Cell("gru", "linear", 0))[0].to_pylist()
    rows = [r for r in rows if (r["control"], r["condition"], r["block"]) == ("trained", "clean", 1)]
    values = {name: {r["n"]: r["value"] for r in rows if r["probe"] == name} for name in ("short", "long", "whole")}
    assert list(values["short"]) == [1, 2, 3, 4]
    assert list(values["long"]) == [0, 1, 2, 3, 4]
    assert all(values["long"][n] == value for n, value in values["short"].items())
    assert values["whole"] == dict.fromkeys(range(5), 1.0)
    for name in ("short-exponent", "long-exponent"):
        (exponent,) = [r["value"] for r in rows if r["probe"] == name]
        assert exponent == pytest.approx(0.5)


def dying(config: CompareConfig, cell: Cell, report: Any) -> Any:
    """A cell that a layer's kernel brings down."""
    if cell.layer == "gru":
        os._exit(7)
    return run_cell(config, cell, report)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import ctxblocks.comparison.run
from comparison.test_absent_probes import dying
from comparison.test_compare import small
ctxblocks.comparison.run.run_cell = dying
if __name__ == "__main__":
    found = ctxblocks.comparison.compare(small(seeds=2), Path(sys.argv[1]), 2, drawn=False)
    assert set(found.failed) == {"gru--linear--0", "gru--linear--1"}, found.failed
    for problem in found.failed.values():
        assert "exit code 7" in problem, problem
"""


def test_a_process_that_dies_fails_its_cell_alone(tmp_path: Path) -> None:
    """The others finish, and the next call tries it again."""
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, str(script), str(out), str(Path(__file__).parents[1])], check=True)
    document = json.loads((out / "run.json").read_text())
    assert document["status"] == "incomplete"
    assert document["failed"]["gru--linear--0"].startswith(
        "CtxblocksError: worker for gru--linear--0: ended with exit co"
    )
    again = undrawn(small(seeds=2), out, 1)
    assert again.failed == {}
    assert {line.layer for line in summarize(again.table, 2, (4,))} == {"gru", "self-attention"}
