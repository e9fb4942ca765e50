"""Options that several of these commands have."""

from typing import Annotated, Literal

from cyclopts import Parameter

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
Site = Annotated[
    Literal["network", "out-proj"],
    Parameter(
        name="--site",
        help="Weights that take the update: the networks' input projections, or the mixers' output projections.",
    ),
]
