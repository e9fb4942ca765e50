"""What all tests share."""

from pathlib import Path

import pytest
import torch
from experiments.small_experiments import small_configuration

from ctxblocks import ArgumentError
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
