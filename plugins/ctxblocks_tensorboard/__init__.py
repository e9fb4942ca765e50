"""Runs in TensorBoard, by torch's own writer."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctxblocks import CtxblocksError, Observer, ObserverSpec, hookimpl

__all__ = ["TensorBoard", "ctxblocks_observers"]


class TensorBoard(Observer):
    """Event files in the run's folder `tensorboard`: a curve over `n` for every probe of every model.

    Args:
        folder: of the run.

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
        """The settings, as text."""
        self._writer.add_text("configuration", f"```\n{json.dumps(configuration, indent=2, ensure_ascii=False)}\n```")

    def row(self, row: Mapping[str, Any]) -> None:
        """One point: against `n`, or against the step of training; a reproduction's rows of single tasks are left out."""
        if "quantity" not in row:
            self._writer.add_scalar(_of_comparison(row), row["value"], row.get("n") or 0)
        elif row.get("task") is None:
            place = row["step"] if row.get("n") is None else row["n"]
            self._writer.add_scalar(_of_reproduction(row), row["value"], place or 0)

    def figure(self, name: str, png: bytes) -> None:
        """An image."""
        import matplotlib.image
        import numpy as np

        pixels = np.asarray(matplotlib.image.imread(io.BytesIO(png), format="png"))
        self._writer.add_image(name, pixels[..., :3], dataformats="HWC")

    def end(self, status: str) -> None:
        """How it ended, and everything on disk."""
        self._writer.add_text("status", status)
        self._writer.close()


def _of_comparison(row: Mapping[str, Any]) -> str:
    """The curve that a row of a comparison belongs to."""
    condition = [] if row.get("condition", "clean") == "clean" else [row["condition"]]
    parts = (row["task"], row["probe"], row["layer"] or "baseline", row["control"], *condition, f"seed {row['seed']}")
    return "/".join(parts) + ("" if row.get("block") is None else f"/block {row['block']}")


def _of_reproduction(row: Mapping[str, Any]) -> str:
    """The curve that a row of a reproduction belongs to."""
    parts = [row["model"], row["quantity"], row["control"]]
    parts += [f"{name} {row[name]:g}" for name in ("block", "lr") if row.get(name) is not None]
    return "/".join(parts)


@hookimpl
def ctxblocks_observers() -> list[ObserverSpec]:
    """The observer of this plugin."""
    return [ObserverSpec(name="tensorboard", summary="Event files for TensorBoard.", open=TensorBoard)]
