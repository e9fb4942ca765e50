"""`ctxblocks export`: a prompt's update of a language model as a LoRA adapter, with the differences measured."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table

from ctxblocks.cli.options import Device, Dtype, Json, Model, Seed, Tokens, console, print_json

if TYPE_CHECKING:
    from ctxblocks_transformers import Difference

Prompt = Annotated[
    str | None, Parameter(name="PROMPT", help="The text; all of it but its last token goes into the adapter.")
]
To = Annotated[Path, Parameter(name="--to", help="A new or empty folder for the adapter.")]
Site = Annotated[
    Literal["network", "out-proj"],
    Parameter(name="--site", help="What takes the update: what the networks read, or the mixers' output projections."),
]


def export(
    model: Model,
    prompt: Prompt = None,
    *,
    to: To,
    site: Site = "network",
    tokens: Tokens = None,
    dtype: Dtype = None,
    as_json: Json = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Write what a prompt does to a language model's weights as a LoRA adapter of rank 1.

    The adapter is for the prompt's last token at its position in the prompt: with it the model answers to that token
    alone as it does to the whole prompt. It is loaded again and compared before success is reported.
    """
    found = _exported(model, prompt, tokens, to, site, dtype, device)
    if as_json:
        print_json(found)
    else:
        _print(found, console())


def _exported(
    name: str, prompt: str | None, tokens: str | None, to: Path, site: Any, dtype: str | None, device: str
) -> dict[str, Any]:
    """Everything that the command does and measures, as JSON's own types."""
    import ctxblocks_transformers as lm

    model, tokenizer = lm.load_model(name, dtype, device)
    input_ids = lm.prompt_tokens(model, tokenizer, prompt, tokens)
    update = lm.transfer_model(model, input_ids, site=site)
    adapter = update.to_peft(to, model)
    return {
        "model": type(model).__name__,
        "model_type": model.config.model_type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "tokens": input_ids[0].tolist(),
        "site": site,
        "folder": str(to),
        "next_token": {"with_prompt": int(update.full.argmax()), "without": int(update.plain.argmax())},
        "update": _numbers(update.report),
        "adapter": _numbers(adapter),
    }


def _numbers(found: "Difference") -> dict[str, float]:
    return {**dataclasses.asdict(found), "relative": found.relative}


def _print(found: dict[str, Any], out: Console) -> None:
    """Where the outputs lie: of the update as it was measured, and of the adapter as it was loaded again."""
    said, removed = found["next_token"], len(found["tokens"]) - 1
    out.print(
        f"{found['model']} ({found['model_type']}, {found['dtype']}): {removed} tokens of the prompt as an update at "
        f"site {found['site']}; next token {said['with_prompt']} with the prompt, {said['without']} without",
        soft_wrap=True,
    )
    heads = ("", "off from full prompt", "relative", "effect of the prompt")
    table = Table(*heads, box=box.SIMPLE_HEAD if out.is_terminal else None)
    for row in ("update", "adapter"):
        numbers = found[row]
        table.add_row(row, *(f"{numbers[key]:.2e}" for key in ("full", "relative", "effect")))
    out.print(table)
    out.print(f"wrote {found['folder']}", soft_wrap=True)
