"""The script that measures what `trace` costs."""

import json

import pytest
from benchmarks.trace_cost import main


def test_every_figure_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """A small setting: all times and memories are there, and all prefixes go by copies."""
    main(["--width", "64", "--blocks", "2", "--tokens", "16", "--vocabulary", "99", "--repeats", "1"])
    found = json.loads(capsys.readouterr().out)
    assert found["route"] == "copies, by self slot"
    assert set(found["seconds"]) == {"forward", "trace, last", "trace, every", "loop"}
    assert all(value > 0 for part in ("seconds", "memory", "ratios") for value in found[part].values())
