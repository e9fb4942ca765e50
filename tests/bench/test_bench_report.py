"""The report of a benchmark: document, table, figure, files."""

import csv
import io
import json
import re
from pathlib import Path

import attrs
import pytest
import torch
from bench_fakes import CEILINGS, instruments, registered
from rich.console import Console

from ctxblocks import ArgumentError
from ctxblocks.bench import BenchConfig, Report
from ctxblocks.bench.config import Variant
from ctxblocks.bench.picture import _panel
from ctxblocks.bench.records import FUNCTIONS, Comparison, Machine, Measurement, Row
from ctxblocks.bench.run import growth_of
from ctxblocks.bench.statistics import Timing
from ctxblocks.bench.subject import Subject
from ctxblocks.cli.bench_table import number, print_report

MACHINE = Machine(
    device="cpu", name="a processor", processors=2, threads=1, memory=2**34, torch="2.13.0", python="3.11.7"
)


def timing(median: float, foreign: float = 0.0) -> Timing:
    return Timing(median=median, lower=median / 2, upper=2 * median, repeats=3, calls=1, foreign=foreign)


@pytest.fixture(scope="module")
def report() -> Report:
    """Two lengths of one layer, with a comparison, a note and a function that was not affordable."""
    config = BenchConfig(layers=("fault",), width=8, lengths=(8, 16), repeats=1)
    with registered() as spec, torch.no_grad():
        variant = Variant(spec=spec, options={})
        subject = Subject(variant, config, torch.device("cpu"))
        rows = [instruments().measure(subject, length) for length in config.lengths]
    unaffordable = Measurement(status="not affordable", note="about 50 s a call", estimate=50.0)
    rows[1] = attrs.evolve(rows[1], functions={**rows[1].functions, "loop": unaffordable})
    compared = Comparison(
        name="stack",
        what="six blocks",
        times={"prefixes": timing(0.2, 0.4), "sequence": timing(0.1)},
        ratios={"prefixes/sequence": 2.0},
    )
    return Report(
        config=config,
        machine=MACHINE,
        ceilings=CEILINGS,
        rows=tuple(rows),
        growths=(growth_of(variant, rows),),
        comparisons=(compared,),
        notes=("a note",),
    )


def test_the_document_holds_everything(report: Report) -> None:
    """Keys are lower-case and values are JSON types."""
    document = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert list(document) == [
        "format",
        "config",
        "machine",
        "ceilings",
        "foreign",
        "rows",
        "exponents",
        "comparisons",
        "notes",
    ]
    assert document["config"]["lengths"] == [8, 16]
    assert document["machine"]["name"] == "a processor"
    row = document["rows"][0]
    assert list(row) == ["layer", "variant", "options", "length", "functions", "ratios"]
    assert list(row["functions"]) == list(FUNCTIONS)
    prefixes = row["functions"]["prefixes"]
    assert list(prefixes) == ["status", "note", "estimate", "time", "work", "bound"]
    assert list(prefixes["time"]) == ["median", "lower", "upper", "repeats", "calls", "foreign"]
    assert list(prefixes["work"]) == ["memory", "flops", "moved"]
    assert list(prefixes["bound"]) == ["seconds", "by", "share"]
    assert list(document["exponents"][0]) == ["layer", "variant", "exponents", "lengths"]
    assert document["comparisons"][0]["ratios"] == {"prefixes/sequence": 2.0}
    keys = re.findall(r'"([^"]+)":', json.dumps(document))
    assert keys
    assert all(key == key.lower() for key in keys)


def test_high_foreign_load_is_noted(report: Report) -> None:
    """The note gives its share; `foreign` is the mean over all measurements."""
    quiet = attrs.evolve(report, rows=()).remarks
    assert quiet == ("a note", "other processes kept using the processors at stack (40%)")
    assert attrs.evolve(report, rows=(), comparisons=report.comparisons).foreign == pytest.approx(0.2)


def test_the_table_of_numbers_has_a_line_for_each_function(report: Report) -> None:
    """It contains times, work and bound, or the reason why there are none."""
    lines = list(csv.DictReader(io.StringIO(report.as_csv())))
    assert [(line["length"], line["function"]) for line in lines] == [
        (str(n), name) for n in (8, 16) for name in FUNCTIONS
    ]
    measured = next(line for line in lines if line["function"] == "prefixes")
    prefixes = report.rows[0].functions["prefixes"]
    assert prefixes.time
    assert prefixes.work
    assert float(measured["median"]) == prefixes.time.median
    assert int(measured["memory"]) == prefixes.work.memory
    assert measured["bound_by"] in ("operations", "bytes")
    loop = lines[-3]
    assert (loop["function"], loop["status"], loop["estimate"], loop["median"]) == (
        "loop",
        "not affordable",
        "50.0",
        "",
    )


def test_everything_is_written(report: Report, tmp_path: Path) -> None:
    """The folder holds four files and no temporary ones."""
    folder = tmp_path / "deep" / "bench"
    report.write(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["bench.csv", "bench.json", "bench.png", "bench.svg"]
    assert json.loads((folder / "bench.json").read_text()) == json.loads(json.dumps(report.as_json()))
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    drawn = (folder / "bench.svg").read_text()
    for words in (
        "fault",
        "sequence",
        "prefixes",
        "suffixes",
        "one call per prefix",
        "context tokens n",
        "ms per call",
    ):
        assert words in drawn


def test_a_folder_that_cannot_be_written_is_refused(report: Report, tmp_path: Path) -> None:
    """The error names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"out: got .*file.*, needs a folder that can be written"):
        report.write(tmp_path / "file" / "bench")


def test_a_panel_draws_what_was_measured(report: Report) -> None:
    """The axes are milliseconds and tokens; the loop has one point, and a function without times has no curve."""
    curves = {curve.label: curve for curve in _panel(report.rows, (1, 2)).curves}
    assert list(curves) == ["sequence", "prefixes", "suffixes", "one call per prefix"]
    assert curves["prefixes"].x.tolist() == [8, 16]
    assert curves["one call per prefix"].x.tolist() == [8]
    first = report.rows[0].functions["prefixes"].time
    assert first
    assert curves["prefixes"].y[0] == 1000 * first.median
    bare: list[Row] = [
        attrs.evolve(row, functions={**row.functions, "loop": Measurement(status="absent")}) for row in report.rows
    ]
    assert "one call per prefix" not in [curve.label for curve in _panel(bare, (1, 2)).curves]


def printed(report: Report, width: int, terminal: bool) -> str:
    out = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, markup=False)
    print_report(report, Path("runs/x"), out)
    return out.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_table_for_people(report: Report) -> None:
    """It has a line for each length, comparisons, exponents, the machine, notes, and the files that were written."""
    lines = [" ".join(line.split()) for line in printed(report, 10_000, False).splitlines()]
    assert lines[0].startswith("layer n sequence prefixes suffixes dynamics pre÷ suf÷ loop÷ seq÷ dyn÷ mem÷ peak")
    assert lines[1].startswith("fault 8 ")
    assert lines[2].startswith("16 ")
    assert "stack prefixes/sequence 2 prefixes 200 ms, sequence 100 ms" in lines
    assert "stack: six blocks" in lines
    assert any(line.startswith("exponent of sequence prefixes suffixes between n") for line in lines)
    assert any(line.endswith("8 and 16") for line in lines)
    assert "ceilings: 1 GFLOP/s (a product); 1 GB/s (a copy)" in lines
    assert "note: a note" in lines
    assert "note: fault, loop: not affordable, about 50 s a call at n = 16" in lines
    assert lines[-1] == "wrote runs/x: bench.json, bench.csv, bench.png, bench.svg"


@pytest.mark.parametrize("width", [80, 120])
def test_ratios_stay_whole_on_a_terminal(report: Report, width: int) -> None:
    """Names are wrapped, numbers are not."""
    report = attrs.evolve(
        report, growths=(attrs.evolve(report.growths[0], variant="a-layer with=many options=set " * 2),)
    )
    table, rest = printed(report, width, True).split("n: tokens")
    assert max(map(len, table.splitlines())) <= width
    assert "8 and 16" in rest
    assert "prefixes/sequence  " in rest
    assert "…" not in table
    cells = table.split()
    assert number(report.rows[0].ratios["prefixes/sequence"]) in cells
    assert number(report.rows[1].ratios["dynamics/block memory"]) in cells
    assert ("suffixes" in cells) == (width >= 110)


@pytest.mark.parametrize(
    ("value", "words"), [(None, "–"), (0.0123, "0.012"), (1.234, "1.23"), (123.4, "123"), (4e5, "400000")]
)
def test_numbers_for_reading(value: float | None, words: str) -> None:
    """They have two or three digits."""
    assert number(value) == words
