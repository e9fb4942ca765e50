"""Options that several of these commands have."""

from typing import Annotated, Literal

from cyclopts import Parameter

from ctxblocks import ArgumentError

Model = Annotated[
    str, Parameter(name="MODEL", help="Folder of a language model of transformers, or its name on the hub.")
]
Tokens = Annotated[
    str | None,
    Parameter(
        name="--tokens",
        show_default=False,
        help="The prompt as token ids, such as 1,2,3, instead of a text [default: none].",
    ),
]
Dtype = Annotated[
    Literal["float64", "float32", "bfloat16", "float16"] | None,
    Parameter(
        name="--dtype", show_default=False, help="Dtype of the model's weights [default: that of the checkpoint]."
    ),
]
Kept = Annotated[
    str,
    Parameter(
        name="--keep",
        help="Tokens that stay besides the last: auto (the first, where it is special or an outlier), none, or positions "
        "such as 0,1.",
    ),
]
Site = Annotated[
    Literal["network", "out-proj"],
    Parameter(
        name="--site",
        help="Weights that take the update: the networks' input projections, or the mixers' output projections.",
    ),
]


def positions_of(keep: str) -> list[int] | Literal["auto"]:
    """The value of `--keep`: `"auto"`, or positions, of which `none` has none.

    Raises:
        ArgumentError: it is something else.
    """
    if keep == "auto":
        return "auto"
    try:
        return [] if keep == "none" else [int(part) for part in keep.split(",")]
    except ValueError:
        raise ArgumentError(f"keep: got {keep!r}, needs auto, none, or positions such as 0,1") from None
