"""`ctxblocks trace`: the effect of every token of a prompt on the weights of every block of a language model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from ctxblocks import ArgumentError
from ctxblocks.cli import (
    Device,
    Json,
    UnusedSeed,
    console,
    new_folder,
    new_table,
    print_json,
    print_lines,
    write_bytes,
    write_text,
)
from ctxblocks_transformers.commands.options import Dtype, Model, Site, Tokens

if TYPE_CHECKING:
    from ctxblocks_transformers import PromptDynamics

Prompt = Annotated[str | None, Parameter(name="PROMPT", show_default=False, help="Text whose last token is the query.")]
Queries = Annotated[
    Literal["last", "every"],
    Parameter(
        name="--queries",
        help="last: every prefix, for the last token; every: each token as a query of the tokens before it.",
    ),
]
Route = Annotated[
    Literal["auto", "copies", "states", "batches", "one by one"],
    Parameter(
        name="--route",
        help="How to compute the blocks' inputs for all prefixes; auto selects the fastest route of the model.",
    ),
]
KeepOption = Annotated[
    str,
    Parameter(
        name="--keep",
        help="Leading tokens that stay with every query: auto for an attention sink, none, or positions such as 0,1.",
    ),
]
Out = Annotated[Path, Parameter(name="--out", help="Folder for trace.html, trace.png and trace.json.")]


def trace(
    model: Model,
    prompt: Prompt = None,
    *,
    queries: Queries = "last",
    site: Site = "network",
    route: Route = "auto",
    keep: KeepOption = "auto",
    out: Out = Path("trace"),
    tokens: Tokens = None,
    dtype: Dtype = None,
    as_json: Json = False,
    seed: UnusedSeed = 0,
    device: Device = "auto",
) -> None:
    """Measure the effect of every token of a prompt on the weights of every block, and plot it over the prompt.

    All prefixes of all blocks cost about two forward passes of a model with standard attention.
    """
    import ctxblocks_transformers as lm

    staying = _keep(keep)
    loaded, tokenizer = lm.load_model(model, dtype, device)
    input_ids = lm.prompt_tokens(loaded, tokenizer, prompt, tokens)
    with new_folder(out):
        dynamics = lm.trace(
            loaded, input_ids, queries=queries, site=site, route=route, keep=staying, tokenizer=tokenizer
        )
    names = _names(tokenizer, input_ids[0].tolist())
    document = {"model": model, **dynamics.as_json(names)}
    _write(dynamics, names, model, document, out)
    if as_json:
        print_json(document)
    else:
        _print(dynamics, names, out, console())


def _keep(text: str) -> Any:
    """The option's value for `trace`.

    Raises:
        ArgumentError: it is neither `auto`, `none` nor positions.
    """
    if text in ("auto", "none"):
        return text if text == "auto" else ()
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ArgumentError(f"keep: got {text!r}, needs auto, none, or positions such as 0,1")
    return [int(part) for part in parts]


def _names(tokenizer: Any, ids: list[int]) -> list[str]:
    """The text of every token; without a tokenizer its id."""
    return [f"{i} " for i in ids] if tokenizer is None else [tokenizer.decode([i]) for i in ids]


def _write(dynamics: "PromptDynamics", names: list[str], model: str, document: dict[str, Any], out: Path) -> None:
    import ctxblocks_transformers as lm

    title = Path(model).name or model
    write_text(out / "trace.json", json.dumps(document, ensure_ascii=False) + "\n")
    write_text(out / "trace.html", lm.page(dynamics, names, title))
    write_bytes(out / "trace.png", lm.picture(dynamics, names, title))


def _print(dynamics: "PromptDynamics", names: list[str], folder: Path, out: Console) -> None:
    """Print a row for each block: its update by the whole prompt, and the token that changed the weights most."""
    about = "every prefix for the last token" if dynamics.queries == "last" else "every token as its own query"
    model = f"{dynamics.model_type}, family {dynamics.family.name}, {len(names)} tokens, {about}"
    deviation = f"route: {dynamics.route}, relative deviation from a forward pass {dynamics.deviation:.1e}"
    print_lines(out, [model, deviation, str(dynamics.kept)])
    heads = (
        "block",
        "site",
        "‖ΔW‖",
        "det P",
        "‖Δb'‖",
        "largest change of W",
        "by token",
        "largest change of b'",
        "by token",
    )
    table = new_table(out, *heads)
    for block, site in enumerate(dynamics.sites):
        last = [f"{float(dynamics.measures[name][block, -1]):.4g}" for name in ("norm", "determinant", "shift")]
        steps = [
            cell for name in ("marginal-change", "marginal_shift") for cell in _largest(dynamics, name, block, names)
        ]
        table.add_row(str(block), site or "none", *last, *steps)
    out.print(table)
    print_lines(out, [f"wrote {folder / 'trace.html'}, {folder / 'trace.png'}, {folder / 'trace.json'}"])


def _largest(dynamics: "PromptDynamics", name: str, block: int, names: list[str]) -> tuple[str, str]:
    """The largest change of a block, and the token that caused it."""
    steps = dynamics.measures[name][block]
    where = int(steps.argmax())
    if float(steps[where]) == 0:
        return "0", "–"
    token = where if dynamics.queries == "last" else where + 1
    return f"{float(steps[where]):.4g}", f"{token} {names[token]!r}"
