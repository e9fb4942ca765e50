"""Options that several commands have."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ctxblocks.validators import seed_of

Json = Annotated[
    bool,
    Parameter(
        name="--json", negative="", show_default=False, help="Print the result as JSON on stdout, and nothing else."
    ),
]


def _check_seed(_: object, value: int) -> None:
    """Refuse a seed out of range, in the words of every other error."""
    seed_of(value, "--seed")


Seed = Annotated[int, Parameter(name="--seed", help="Random seed.", validator=_check_seed)]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    Parameter(name="--device", help="Device for the computation; auto selects CUDA where there is a GPU."),
]
UnusedSeed = Annotated[int, Parameter(name="--seed", show=False, validator=_check_seed)]
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
