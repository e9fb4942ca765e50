"""What all tests share."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from experiments.small_experiments import small_configuration
from hypothesis import Phase, settings

from ctxblocks import ArgumentError
from ctxblocks.cli import main
from ctxblocks.comparison import CompareConfig
from ctxblocks.experiments import Configuration, Record, reproduce

pytest_plugins = ["pytester"]

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Modules draw their weights from torch's global state: the same in every test, whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def configuration() -> Configuration:
    """All figures of small models."""
    return small_configuration()


@pytest.fixture(scope="session")
def finished(configuration: Configuration, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A complete reproduction of all figures in small, in one process: its folder and its record."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, reproduce(configuration, folder, workers=1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[CompareConfig]:
    """What `ctxblocks compare` is asked for; it ends there, with exit code 2."""
    found: list[CompareConfig] = []

    def stop(config: CompareConfig, *rest: object) -> None:
        found.append(config)
        raise ArgumentError("enough")

    monkeypatch.setattr("ctxblocks.comparison.compare", stop)
    return found


@pytest.fixture
def first_failure() -> Iterator[None]:
    """Hypothesis draws the same examples every time and does not shrink, for tests in which a property has to fail."""
    before = settings.get_current_profile_name()
    phases = [Phase.generate]
    settings.register_profile("faults", phases=phases, database=None, derandomize=True, report_multiple_bugs=False)
    settings.load_profile("faults")
    yield
    settings.load_profile(before)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[str]], str]:
    """Run a command that has to fail with exit code 2, nothing on stdout and one line on stderr; returns that line."""

    def run(command: Sequence[str]) -> str:
        assert main(list(command)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return run
