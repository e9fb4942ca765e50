"""`ctxblocks export`: the update of a language model by a prompt as a LoRA adapter, with the measured differences."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from ctxblocks.cli import Device, Json, UnusedSeed, console, new_table, print_json, print_lines
from ctxblocks_transformers.commands.options import Dtype, Kept, Model, Site, Tokens, positions_of

if TYPE_CHECKING:
    from ctxblocks_transformers import Difference

Prompt = Annotated[
    str | None, Parameter(name="PROMPT", show_default=False, help="Text; all but its last token goes into the adapter.")
]
To = Annotated[Path, Parameter(name="--to", help="New or empty folder for the adapter.")]


def export(
    model: Model,
    prompt: Prompt = None,
    *,
    to: To,
    site: Site = "network",
    keep: Kept = "auto",
    tokens: Tokens = None,
    dtype: Dtype = None,
    as_json: Json = False,
    seed: UnusedSeed = 0,
    device: Device = "auto",
) -> None:
    """Write the effect of a prompt on a language model's weights as a LoRA adapter.

    The adapter is for the last token of the prompt at its position in the prompt: with it, the output of the model for that
    token (after those that are kept) is its output for the whole prompt. The adapter is loaded and compared before success is
    reported.
    """
    report = _exported(model, prompt, tokens, to, site, keep, dtype, device)
    if as_json:
        print_json(report)
    else:
        _print(report, console())


def _exported(
    name: str, prompt: str | None, tokens: str | None, to: Path, site: Any, keep: str, dtype: str | None, device: str
) -> dict[str, Any]:
    """Export, and return what was measured as JSON's own types."""
    import ctxblocks_transformers as lm

    model, tokenizer = lm.load_model(name, dtype, device)
    input_ids = lm.prompt_tokens(model, tokenizer, prompt, tokens)
    update = lm.transfer_model(model, input_ids, positions_of(keep), site=site, tokenizer=tokenizer)
    kept = update.kept
    adapter = update.to_peft(to, model)
    return {
        "model": type(model).__name__,
        "model_type": model.config.model_type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "tokens": input_ids[0].tolist(),
        "site": site,
        "kept": {"positions": list(kept.positions), "reason": kept.reason, "said": str(kept)},
        "folder": str(to),
        "next_token": {"with_prompt": int(update.full.argmax()), "without": int(update.plain.argmax())},
        "update": _numbers(update.report),
        "adapter": _numbers(adapter),
    }


def _numbers(difference: "Difference") -> dict[str, Any]:
    return {**dataclasses.asdict(difference), "relative": difference.relative}


def _print(report: dict[str, Any], out: Console) -> None:
    """Print the differences of the outputs: with the update, and with the adapter as it was loaded."""
    answer, removed = report["next_token"], len(report["tokens"]) - 1 - len(report["kept"]["positions"])
    about = (
        f"{report['model']} ({report['model_type']}, {report['dtype']}): {removed} tokens of the prompt as an update at "
        f"site {report['site']}; next token {answer['with_prompt']} with the prompt, {answer['without']} without"
    )
    print_lines(out, [about, report["kept"]["said"]])
    table = new_table(out, "", "difference from full prompt", "relative", "effect of the prompt", "KL", "same top")
    for row in ("update", "adapter"):
        numbers = report[row]
        table.add_row(
            row,
            *(f"{numbers[key]:.2e}" for key in ("full", "relative", "effect", "kl")),
            "yes" if numbers["same_top"] else "no",
        )
    out.print(table)
    print_lines(out, [f"wrote {report['folder']}"])
