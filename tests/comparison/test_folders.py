"""Folders of comparisons: resumed after any interruption, and refused where they hold something else."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from comparison.test_compare import SMALL, small, undrawn

from ctxblocks import ArgumentError


def same(one: pa.Table, other: pa.Table) -> bool:
    """Equal rows; a missing standard error is equal to itself."""
    return str(one.to_pylist()) == str(other.to_pylist())


def test_one_table_whatever_the_workers_and_the_interruptions(tmp_path: Path) -> None:
    """Two processes, one, and a folder that lost a cell: the same rows; a second call computes nothing."""
    config = small(seeds=2)
    tables = []
    for name, workers in (("two", 2), ("one", 1)):
        tables.append(undrawn(config, tmp_path / name, workers).table)
    assert same(*tables)
    (tmp_path / "one" / "cells" / "gru--linear--1.parquet").unlink()
    told: list[tuple[int, int, str]] = []
    again = undrawn(config, tmp_path / "one", 1, lambda *each: told.append(each))
    assert told == [(6, 6, "gru--linear--1")]
    assert same(again.table, tables[0])
    told.clear()
    undrawn(config, tmp_path / "one", 1, lambda *each: told.append(each))
    assert told == []
    found = json.loads((tmp_path / "one" / "run.json").read_text())
    assert (found["status"], found["failed"], found["format"]) == ("complete", {}, 2)
    assert same(pq.read_table(tmp_path / "one" / "metrics.parquet"), tables[0])


def test_a_killed_comparison_is_resumed(tmp_path: Path) -> None:
    """Killed when the first cell is complete, and called again: the table of an undisturbed one."""
    script = (
        "import sys; from pathlib import Path; from ctxblocks.comparison import compare, compare_config\n"
        f"config = compare_config('quick', ('gru', 'self-attention'), ('linear',), seeds=3, **{SMALL!r})\n"
        "compare(config, Path(sys.argv[1]), 1, drawn=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")], start_new_session=True)
    cells = tmp_path / "killed" / "cells"
    while not (cells.exists() and any(cells.glob("*.parquet"))):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    complete = len(list(cells.glob("*.parquet")))
    config = small(seeds=3)
    assert complete < len(config.cells())
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["status"] == "running"
    assert same(undrawn(config, tmp_path / "killed", 1).table, undrawn(config, tmp_path / "whole", 1).table)


def test_folders_that_cannot_be_resumed(tmp_path: Path) -> None:
    """Another comparison's, another version's, something else's, a damaged cell: the file is named."""
    undrawn(small(steps=2), tmp_path, 1)
    with pytest.raises(
        ArgumentError,
        match=r"out: got .*which holds a comparison of another configuration \(it differs in steps: 2 there, 3 here\).*--out",
    ):
        undrawn(small(steps=3), tmp_path, 1)
    cell = tmp_path / "cells" / "gru--linear--0.parquet"
    content = cell.read_bytes()
    cell.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArgumentError, match=r"gru--linear--0\.parquet: cannot be read .* delete it"):
        undrawn(small(steps=2), tmp_path, 1)
    pq.write_table(pa.table({"a": [1]}), cell)
    with pytest.raises(ArgumentError, match="holds other columns than this version's"):
        undrawn(small(steps=2), tmp_path, 1)
    run = tmp_path / "run.json"
    found = json.loads(run.read_text())
    run.write_text(json.dumps({**found, "format": 99}))
    with pytest.raises(ArgumentError, match=r"run\.json: is a comparison of format 99, needs a comparison of format 2"):
        undrawn(small(steps=2), tmp_path, 1)
    run.write_text("{")
    with pytest.raises(ArgumentError, match=r"run\.json: is not that of a whole comparison"):
        undrawn(small(steps=2), tmp_path, 1)
