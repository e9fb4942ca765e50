"""The options that every command has, and how results are printed."""

import json
import sys
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

Json = Annotated[
    bool,
    Parameter(
        name="--json", negative="", show_default=False, help="Print the result as JSON on stdout, and nothing else."
    ),
]
Seed = Annotated[int, Parameter(name="--seed", help="Seed of everything drawn at random.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    Parameter(name="--device", help="Where to compute; auto takes CUDA where there is a GPU, and cuda insists on one."),
]

Observe = Annotated[
    list[str] | None,
    Parameter(
        name="--observe",
        consume_multiple=True,
        negative="",
        show_default=False,
        help="Registered observers: tensorboard, …",
    ),
]
Model = Annotated[
    str, Parameter(name="MODEL", help="Folder of a language model of transformers, or its name on the hub.")
]

Tokens = Annotated[
    str | None,
    Parameter(
        name="--tokens", show_default=False, help="The prompt as the tokens' numbers, such as 1,2,3, instead of a text."
    ),
]
Dtype = Annotated[
    Literal["float64", "float32", "bfloat16", "float16"] | None,
    Parameter(name="--dtype", show_default=False, help="Of the model's weights; by default the checkpoint's own."),
]


def print_json(value: Any) -> None:
    """Print a result on stdout as one JSON document."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def console() -> Console:
    """A console on stdout: as wide as the terminal, and in a pipe wide enough for one line per row."""
    width = None if sys.stdout.isatty() else 10_000
    return Console(width=width, markup=False, highlight=False, emoji=False)
