"""A run in small that many tests look at."""

from pathlib import Path

import pytest
from small_experiments import small_configuration

from ctxblocks.experiments import Configuration, Record, reproduce


@pytest.fixture(scope="session")
def configuration() -> Configuration:
    """All figures of small models."""
    return small_configuration()


@pytest.fixture(scope="session")
def finished(configuration: Configuration, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A complete run of all figures, in one process: its folder and its record."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, reproduce(configuration, folder, workers=1)
