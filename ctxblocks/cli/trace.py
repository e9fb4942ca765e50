"""`ctxblocks trace`: what every token of a prompt does to the weights of every block of a language model."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table

from ctxblocks.cli.options import Device, Dtype, Json, Model, Seed, Tokens, console, print_json
from ctxblocks.runs.files import make_folders, write_bytes, write_text

if TYPE_CHECKING:
    from ctxblocks_transformers import PromptDynamics

Prompt = Annotated[str | None, Parameter(name="PROMPT", help="The text, whose last token is the query.")]
Queries = Annotated[
    Literal["last", "every"],
    Parameter(name="--queries", help="Every prefix for the last token, or each token as its own query."),
]
Site = Annotated[
    Literal["network", "out-proj"],
    Parameter(name="--site", help="What takes the update: what the networks read, or the mixers' output projections."),
]
Route = Annotated[
    Literal["auto", "copies", "states", "batches", "one by one"],
    Parameter(name="--route", help="How to find what all prefixes read; by default the fastest that the model allows."),
]
Out = Annotated[Path, Parameter(name="--out", help="Folder for trace.html, trace.png and trace.json.")]


def trace(
    model: Model,
    prompt: Prompt = None,
    *,
    queries: Queries = "last",
    site: Site = "network",
    route: Route = "auto",
    out: Out = Path("trace"),
    tokens: Tokens = None,
    dtype: Dtype = None,
    as_json: Json = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Measure what every token of a prompt does to the weights of every block, and draw it over the prompt.

    All prefixes of all blocks cost about two forward passes where the model attends in the ordinary way.
    """
    import ctxblocks_transformers as lm

    loaded, tokenizer = lm.load_model(model, dtype, device)
    input_ids = lm.prompt_tokens(loaded, tokenizer, prompt, tokens)
    with _folder(out):
        found = lm.trace(loaded, input_ids, queries=queries, site=site, route=route)
    names = _names(tokenizer, input_ids[0].tolist())
    document = {"model": model, **found.as_json(names)}
    _write(found, names, model, document, out)
    if as_json:
        print_json(document)
    else:
        _print(found, names, out, console())


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[None]:
    """The folder is there before anything is computed, and a new one gone again if nothing comes of it."""
    new = not out.exists()
    make_folders(out)
    try:
        yield
    except BaseException:
        if new:
            out.rmdir()
        raise


def _names(tokenizer: Any, ids: list[int]) -> list[str]:
    """Every token as it stands in the text; without a tokenizer its number."""
    return [f"{i} " for i in ids] if tokenizer is None else [tokenizer.decode([i]) for i in ids]


def _write(found: "PromptDynamics", names: list[str], model: str, document: dict[str, Any], out: Path) -> None:
    import json

    import ctxblocks_transformers as lm

    title = Path(model).name or model
    write_text(out / "trace.json", json.dumps(document, ensure_ascii=False) + "\n")
    write_text(out / "trace.html", lm.page(found, names, title))
    write_bytes(out / "trace.png", lm.picture(found, names, title))


def _print(found: "PromptDynamics", names: list[str], folder: Path, out: Console) -> None:
    """A row for each block: its update for the whole prompt, and the token that moved it most."""
    about = "every prefix for the last token" if found.queries == "last" else "every token as its own query"
    out.print(f"{found.model_type}, family {found.family.name}, {len(names)} tokens, {about}", soft_wrap=True)
    out.print(f"found by {found.route}, {found.deviation:.1e} off an ordinary pass", soft_wrap=True)
    heads = (
        "block",
        "site",
        "‖ΔW‖",
        "det P",
        "‖Δb'‖",
        "largest step of W",
        "by token",
        "largest step of b'",
        "by token",
    )
    table = Table(*heads, box=box.SIMPLE_HEAD if out.is_terminal else None)
    for block, site in enumerate(found.sites):
        last = [f"{float(found.measures[name][block, -1]):.4g}" for name in ("norm", "determinant", "shift")]
        steps = [cell for name in ("marginal-change", "marginal_shift") for cell in _largest(found, name, block, names)]
        table.add_row(str(block), site or "none", *last, *steps)
    out.print(table)
    out.print(f"wrote {folder / 'trace.html'}, {folder / 'trace.png'}, {folder / 'trace.json'}", soft_wrap=True)


def _largest(found: "PromptDynamics", name: str, block: int, names: list[str]) -> tuple[str, str]:
    """The largest step of a block, and the token that took it."""
    steps = found.measures[name][block]
    where = int(steps.argmax())
    if float(steps[where]) == 0:
        return "0", "–"
    token = where if found.queries == "last" else where + 1
    return f"{float(steps[where]):.4g}", f"{token} {names[token]!r}"
