"""What all tests share."""

import pytest
import torch

pytest_plugins = ["pytester"]

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Modules draw their weights from torch's global state: the same in every test, whatever ran before."""
    torch.manual_seed(0)
