"""`run.json`: what a run is, how far it is, and what it found."""

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Literal

import attrs
import cattrs

from ctxblocks.base.errors import ArgumentError
from ctxblocks.experiments.claims import Claim
from ctxblocks.experiments.presets import Configuration
from ctxblocks.experiments.tasks import derive_seed
from ctxblocks.runs.files import write_text

FILE = "run.json"
FORMAT = 1
"""Of the folder."""
KIND = "reproduction"
PACKAGES = ("ctxblocks", "torch", "numpy", "matplotlib", "pyarrow", "safetensors")


@attrs.frozen(kw_only=True)
class FigureFiles:
    """A figure of a run.

    Attributes:
        number: the paper's.
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
        command: that makes the same run again.
        status: `running` until everything is written.
        configuration: all settings.
        seeds: the run's, and those derived from it.
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
        versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
        return cls(
            command=_command(config), status="running", configuration=config, seeds=_seeds(config), versions=versions
        )

    def as_json(self) -> dict[str, object]:
        """JSON's own types; every claim with its verdict in words."""
        plain: dict[str, object] = {"format": FORMAT, "kind": KIND, **cattrs.unstructure(self)}
        plain["claims"] = [{**cattrs.unstructure(claim), "verdict": claim.verdict} for claim in self.claims]
        return plain

    def write(self, folder: Path) -> None:
        """Put `run.json` into the folder."""
        write_text(folder / FILE, json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n")


def read_record(folder: Path) -> Record:
    """What `run.json` of the folder holds.

    Raises:
        ArgumentError: it is not a reproduction's, or another version's.
    """
    path = folder / FILE
    try:
        plain = json.loads(path.read_text("utf-8"))
        version = (plain["kind"], plain["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"{path}: is not that of a reproduction ({type(error).__name__}); give another folder with --out"
        ) from error
    if version != (KIND, FORMAT):
        raise ArgumentError(
            f"{path}: is a {version[0]} of format {version[1]}, needs a {KIND} of format {FORMAT}; "
            f"give another folder with --out"
        )
    try:
        return cattrs.structure(plain, Record)
    except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
        raise ArgumentError(
            f"{path}: is not that of a whole reproduction ({type(error).__name__}); give another folder with --out"
        ) from error


def check_folder(folder: Path, config: Configuration) -> None:
    """Raise if the folder holds another run than the configuration's.

    Raises:
        ArgumentError: it does, or a `run.json` that cannot be read as one.
    """
    if not (folder / FILE).exists():
        return
    found = read_record(folder).configuration
    if found == config:
        return
    differing = [
        field.name for field in attrs.fields(Configuration) if getattr(found, field.name) != getattr(config, field.name)
    ]
    raise ArgumentError(
        f"out: got {str(folder)!r}, which holds a run of another configuration (it differs in {', '.join(differing)}), "
        f"needs a folder without a run, or with this very one to go on with; give another folder with --out"
    )


def _command(config: Configuration) -> str:
    figures = " ".join(map(str, config.figures))
    options = {"preset": config.preset, "seed": config.seed, "device": config.device, "dtype": config.dtype}
    return " ".join(["ctxblocks reproduce", figures, *(f"--{name} {value}" for name, value in options.items())])


def _seeds(config: Configuration) -> dict[str, int]:
    derived = {name: derive_seed(config.seed, name) for name in ("validation", "new tasks")}
    weights = {f"weights of {m.name}": derive_seed(config.seed, "weights", m.name) for m in config.models}
    return {"run": config.seed, **derived, **weights}
