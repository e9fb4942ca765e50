"""Every example runs as a script."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
QUICK = {
    "generate_without_prompt": ["--tokens", "10"],
    "train_tiny_lm": ["--steps", "5"],
    "trace_tiny_lm": ["--steps", "5", "--prompts", "2"],
}
"""Arguments that shorten examples which would take minutes."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    """The script succeeds from any working directory, prints something and gives no warning."""
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", path, *QUICK.get(path.stem, [])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout
    assert "Warning" not in run.stderr
