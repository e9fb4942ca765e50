"""Runs in TensorBoard, written by torch's own writer."""

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctxblocks import CtxblocksError, Observer, ObserverSpec, hookimpl

__all__ = ["TensorBoard", "ctxblocks_observers"]


class TensorBoard(Observer):
    """Event files in the folder `tensorboard` of a run: losses during training, and a curve over `n` for every probe.

    Args:
        folder: the folder of the run.

    Raises:
        CtxblocksError: the package tensorboard is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise CtxblocksError(
                f"observer 'tensorboard': cannot be imported ({error}), needs the package tensorboard; "
                f'install it with pip install "ctxblocks[tensorboard]"'
            ) from error
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def start(self, configuration: Mapping[str, Any]) -> None:
        """Write the settings, as text."""
        self._writer.add_text("configuration", f"```\n{json.dumps(configuration, indent=2, ensure_ascii=False)}\n```")

    def evaluation(self, model: str, step: int, losses: Mapping[str, float]) -> None:
        """Write a point for each loss, while the model is in training."""
        for name, loss in losses.items():
            if math.isfinite(loss):
                self._writer.add_scalar(f"training/{model}/{name}", loss, step)
        self._writer.flush()

    def row(self, row: Mapping[str, Any]) -> None:
        """Write one point, against `n` or the training step; rows of single tasks of a reproduction are left out."""
        if "quantity" not in row:
            self._writer.add_scalar(_of_comparison(row), row["value"], row.get("n") or 0)
        elif row.get("task") is None:
            place = row["step"] if row.get("n") is None else row["n"]
            self._writer.add_scalar(_of_reproduction(row), row["value"], place or 0)

    def figure(self, name: str, png: bytes) -> None:
        """Write an image."""
        import matplotlib.image
        import numpy as np

        pixels = np.asarray(matplotlib.image.imread(io.BytesIO(png), format="png"))
        self._writer.add_image(name, pixels[..., :3], dataformats="HWC")

    def end(self, status: str) -> None:
        """Write the status, and close the files."""
        self._writer.add_text("status", status)
        self._writer.close()


def _of_comparison(row: Mapping[str, Any]) -> str:
    """The curve of a row of a comparison."""
    condition = [] if row.get("condition", "clean") == "clean" else [row["condition"]]
    parts = (row["task"], row["probe"], row["layer"] or "baseline", row["control"], *condition, f"seed {row['seed']}")
    return "/".join(parts) + ("" if row.get("block") is None else f"/block {row['block']}")


def _of_reproduction(row: Mapping[str, Any]) -> str:
    """The curve of a row of a reproduction."""
    parts = [row["model"], row["quantity"], row["control"]]
    parts += [f"{name} {row[name]:g}" for name in ("block", "lr") if row.get(name) is not None]
    return "/".join(parts)


@hookimpl
def ctxblocks_observers() -> list[ObserverSpec]:
    """The observer of this plugin."""
    return [ObserverSpec(name="tensorboard", summary="Event files for TensorBoard.", open=TensorBoard)]
