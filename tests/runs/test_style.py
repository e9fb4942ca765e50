"""Figures do not depend on the user's configuration of matplotlib."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from ctxblocks.report import figure_style

SOURCE = """
import hashlib, numpy as np
from ctxblocks.runs.drawing import draw, draw_panel
from ctxblocks.runs.figure import Curve, Figure, Panel
x = np.arange(1.0, 9.0)
panel = Panel(title="t", xlabel="x", ylabel="y", curves=(Curve(label="a", x=x, y=x**2, error=x / 9),))
pictures = draw(Figure(name="f", title="t", rows=(((panel,),),), caption=""))
for content in (*pictures, draw_panel(panel).encode()):
    print(hashlib.sha256(content).hexdigest())
"""


def digests(**environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", SOURCE], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(
    "content", [b"text.usetex: True\naxes.facecolor: red\nfont.size: 30\n", b"\xff\xfe\x00"], ids=["latex", "binary"]
)
def test_a_file_of_the_user_changes_nothing(tmp_path: Path, content: bytes) -> None:
    """The same bytes, with other settings, without LaTeX, and with a file that cannot be read; and with an unknown backend."""
    (tmp_path / "matplotlibrc").write_bytes(content)
    assert digests(MATPLOTLIBRC=str(tmp_path), MPLBACKEND="nonsense") == digests()


def test_the_users_settings_hold_afterwards() -> None:
    """Inside the context are defaults with the settings given, outside what was there."""
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 7}):
        with figure_style({"font.size": 8}):
            assert matplotlib.rcParams["font.size"] == 8
            assert matplotlib.rcParams["lines.linewidth"] == matplotlib.rcParamsDefault["lines.linewidth"]
        assert matplotlib.rcParams["font.size"] == 30
