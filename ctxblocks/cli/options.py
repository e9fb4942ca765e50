"""Options that several commands have."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

Json = Annotated[
    bool,
    Parameter(
        name="--json", negative="", show_default=False, help="Print the result as JSON on stdout, and nothing else."
    ),
]


def _seed(_: Any, tokens: Sequence[Token]) -> int:
    """The seed of an option's text; cyclopts itself would round 2.5."""
    from ctxblocks.base.errors import ArgumentError
    from ctxblocks.validators import seed_of

    text = tokens[0].value
    try:
        return seed_of(int(text) if text.strip().lstrip("+-").isdecimal() else text)  # type: ignore[arg-type]
    except ArgumentError as error:
        raise ValueError(str(error).removeprefix("seed: ")) from None


Seed = Annotated[int, Parameter(name="--seed", help="Random seed.", converter=_seed)]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    Parameter(name="--device", help="Device for the computation; auto selects CUDA where there is a GPU."),
]
UnusedSeed = Annotated[int, Parameter(name="--seed", show=False, converter=_seed)]
"""Of a command that draws nothing at random: accepted, and not shown in its help."""
UnusedDevice = Annotated[Literal["auto", "cpu", "cuda"], Parameter(name="--device", show=False)]
"""Of a command that computes nothing on a device: accepted, and not shown in its help."""

Observe = Annotated[
    list[str] | None,
    Parameter(
        name="--observe",
        consume_multiple=True,
        negative="",
        show_default=False,
        help="Registered observers to notify, such as tensorboard [default: none].",
    ),
]


def preset_option(name: str, help: str) -> Any:
    """An option whose default is that of the preset."""
    return Parameter(name=name, show_default=False, help=help)
