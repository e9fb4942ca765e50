"""The record of a reproduction: its content of `run.json`."""

from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs

from ctxblocks.experiments.claims import Claim
from ctxblocks.experiments.presets import Configuration
from ctxblocks.runs.document import UNREADABLE, Kind, command_line, versions_of
from ctxblocks.runs.seeds import derive_seed

KIND = Kind("reproduction", 1)
PACKAGES = ("ctxblocks", "torch", "numpy", "matplotlib", "pyarrow", "safetensors")


@attrs.frozen(kw_only=True)
class FigureFiles:
    """A figure of a run.

    Attributes:
        number: of the figure in the paper.
        caption: in full.
        files: picture as PNG and SVG, numbers and caption, relative to the run's folder.
    """

    number: int
    caption: str
    files: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Record:
    """A run, as `run.json` holds it.

    Attributes:
        command: the command line that makes the same run again.
        status: `running` until everything is written.
        configuration: all settings.
        seeds: that of the run, and those derived from it.
        versions: of Python and of the packages that the numbers come from.
        claims: with verdicts, once the run is complete.
        figures: once the run is complete.
    """

    command: str
    status: Literal["running", "complete"]
    configuration: Configuration
    seeds: dict[str, int]
    versions: dict[str, str]
    claims: tuple[Claim, ...] = ()
    figures: tuple[FigureFiles, ...] = ()

    @classmethod
    def begin(cls, config: Configuration) -> "Record":
        """The record of a run that has just begun."""
        return cls(
            command=_command(config),
            status="running",
            configuration=config,
            seeds=_seeds(config),
            versions=versions_of(PACKAGES),
        )

    def as_json(self) -> dict[str, Any]:
        """JSON's own types; every claim with its verdict in words."""
        plain = KIND.document(cattrs.unstructure(self))
        plain["claims"] = [
            {"figure": claim.figure, **cattrs.unstructure(claim), "verdict": claim.verdict} for claim in self.claims
        ]
        return plain

    def write(self, folder: Path) -> None:
        """Put `run.json` into the folder."""
        KIND.write(folder, self.as_json())


def read_record(folder: Path) -> Record:
    """The record of the run in a folder.

    Raises:
        ArgumentError: its `run.json` is not that of a reproduction, or of another version.
    """
    plain = KIND.read(folder)
    try:
        return cattrs.structure(plain, Record)
    except UNREADABLE as error:
        raise KIND.broken(folder, error) from error


def _command(config: Configuration) -> str:
    options = {"preset": config.preset, "seed": config.seed, "device": config.device, "dtype": config.dtype}
    return command_line("reproduce", config.figures, options)


def _seeds(config: Configuration) -> dict[str, int]:
    derived = {name: derive_seed(config.seed, name) for name in ("validation", "new tasks")}
    weights = {f"weights of {m.name}": derive_seed(config.seed, "weights", m.name) for m in config.models}
    return {"run": config.seed, **derived, **weights}
