"""The tables of docs/language-models.md, computed: every model type at both sites, and every mistake.

`cd tests && python -m lm.table` writes them again.
"""

import dataclasses
import inspect
import math
import re
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from ctxblocks_transformers import ModelUpdate, transfer_model
from ctxblocks_transformers.wiring.families import FAMILIES
from ctxblocks_transformers.wiring.family import family_of
from ctxblocks_transformers.wiring.guess import _layers_path
from ctxblocks_transformers.wiring.sites import Hooks, by_token
from ctxblocks_transformers.wiring.wirings import NETWORKS
from lm.tiny import prompt, state, tiny
from lm.wrong import WRONG, error_of

from ctxblocks import WIRINGS, BlockSpec, FamilySpec, registry

PAGE = Path(__file__).parents[2] / "docs" / "language-models.md"
TYPES = sorted(name for family in FAMILIES for name in family.models)
# fmt: off
GUESSED = [
    "afmoe", "aria_text", "axk2", "beam", "bert", "bert-generation", "big_bird", "biogpt", "bloom", "camembert",
    "cohere2_moe", "ctrl", "data2vec-text", "dbrx", "deepseek_v4", "dots3_note_text", "electra", "ernie",
    "ernie4_5_moe", "falcon", "flint", "gemma3n_text", "gemma4_text", "git", "gpt_neo", "gpt_neox",
    "gpt_neox_japanese", "granite_swa", "granitemoe_swa", "hunyuan_v1_moe", "hy_v3", "hy_v4", "hyperclovax",
    "iquestcoder", "kolibri1", "lfm3", "megatron-bert", "mellum", "minimax_m3_vl_text",
    "modernbert-decoder", "openai-gpt", "opt", "qwen4_exp_text", "rembert", "roberta", "roberta-prelayernorm",
    "roc_bert", "roformer", "stablelm", "xlm-roberta", "xlm-roberta-xl", "xmod", "zaya",
]
# fmt: on
SOME_GUESSED = ["bert", "bloom", "falcon", "gemma4_text", "gpt_neox", "openai-gpt", "opt", "roberta", "stablelm"]
"""One guessed type for each way of guessing, for tests that would take long with all."""
EVERY = sorted([*TYPES, *GUESSED])
IN_SINGLE = re.compile(r"F\.linear\(\w+(, self\.\w+)?\.(float\(|type\(torch\.float32)|residual_in_fp32")
"""A pattern in the code of models that multiply matrices, or add up their layers, in float32 in any dtype."""
BOUNDS = {torch.float64: 1e-10, torch.float32: 32 * torch.finfo(torch.float32).eps}
"""Largest relative error: in float32 that of a few roundings, since each layer makes up for those before it."""
SITES = ("network", "out-proj")
HEADER = ("model type", "wiring", "known", "effect", *(f"{site}, {kind}" for site in SITES for kind in ("f64", "f32")))


@dataclasses.dataclass(frozen=True)
class Row:
    """One model type.

    Attributes:
        model_type: its name.
        wiring: of its layers, each kind once.
        known: `"registered"` or `"guessed"`.
        effect: of the context on the query's logits, relative to the largest: the error without any update.
        errors: with the update, in the order of `HEADER`; None at a site that the type does not have.
        single: whether it computes in float32 in places, in any dtype.
    """

    model_type: str
    wiring: str
    known: str
    effect: float
    errors: tuple[float | None, ...]
    single: bool

    def bounds(self) -> tuple[float, ...]:
        """The bound of each error."""
        return (1e-6 if self.single else BOUNDS[torch.float64], BOUNDS[torch.float32]) * len(SITES)

    def cells(self) -> tuple[str, ...]:
        """The row as printed in the table: errors rounded up to a power of ten."""
        name = f"{self.model_type} ¹" if self.single else self.model_type
        return (name, self.wiring, self.known, f"{self.effect:.1g}", *map(power_of_ten, self.errors))


def power_of_ten(error: float | None) -> str:
    """The least power of ten that an error does not exceed."""
    if error is None:
        return "–"
    return f"1e{math.ceil(math.log10(error))}" if error > 0 else "0"


def measure(model_type: str) -> Row:
    """A tiny random model's query alone against seven tokens of context, at both sites and in both dtypes."""
    errors: dict[tuple[str, torch.dtype], float | None] = {}
    families = []
    for dtype in BOUNDS:
        model = tiny(model_type, dtype)
        before = state(model)
        families.append(family_of(model))
        for site in SITES:
            if site == "network" or has_projections(families[-1]):
                site_: Any = site
                update = transfer_model(model, prompt(), site=site_, family=families[-1])
                errors[site, dtype] = worst(model, update)
        assert state(model) == before
    assert families[0] == families[1]
    return Row(
        model_type=model_type,
        wiring=", ".join(dict.fromkeys(block.wiring for block in families[0].blocks)),
        known="registered" if registry().family(model_type) else "guessed",
        effect=update.report.effect / update.report.size,
        errors=tuple(errors.get((site, dtype)) for site in SITES for dtype in BOUNDS),
        single=in_single(model),
    )


def in_single(model: Any) -> bool:
    """Whether the model computes in float32 in places, in any dtype."""
    return IN_SINGLE.search(inspect.getsource(inspect.getmodule(type(model)))) is not None


def bound_of(model: Any) -> float:
    """The bound of an error in float64, relative to the largest output."""
    return 1e-6 if in_single(model) else BOUNDS[torch.float64]


def has_projections(family: FamilySpec) -> bool:
    """Whether every mixer has an output projection for the second site."""
    return all(block.projection for block in family.blocks if block.mixer)


def worst(model: Any, update: ModelUpdate) -> float:
    """The largest relative error among the outputs of all layers and the logits, with the update in place."""
    full = outputs(model, update.family.layers, {"input_ids": prompt(), "use_cache": False})
    with update.applied(model):
        found = outputs(model, update.family.layers, update.inputs(model))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, full, strict=True))


def outputs(model: Any, layers: str, inputs: dict[str, Any]) -> list[torch.Tensor]:
    """The output of every layer at the last token, then the logits."""
    found: list[torch.Tensor] = []
    with Hooks() as hooks, torch.no_grad():
        for layer in model.get_submodule(layers):
            hooks.after(layer, lambda x: found.append(by_token(x)[-1].double()))
        logits = model(**inputs).logits
    return [*found, logits[..., -1, :].double()]


def count() -> str:
    """How many model types there are, and classes of layers among them."""
    classes = set()
    for model_type in EVERY:
        model = tiny(model_type)
        classes |= {type(layer) for layer in model.get_submodule(_layers_path(model))}
    return f"{len(EVERY)} model types with {len(classes)} classes of layers:"


WIRING_HEADER = ("wiring", "equations", "update of the weights", "bias shift")


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    lines = [tuple(header), *map(tuple, rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def printed(name: str) -> list[list[str]]:
    """The rows of a table in the docs."""
    found = re.search(_between(name), PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    lines = [line for line in found.group(2).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def write(name: str, text: str) -> None:
    """Write a table between its marks in the docs."""
    page = PAGE.read_text("utf-8")
    made, count = re.subn(_between(name), lambda found: f"{found[1]}\n{text}\n{found[3]}", page, flags=re.DOTALL)
    assert count == 1
    PAGE.write_text(made, "utf-8")


def wirings() -> list[tuple[str, ...]]:
    """Every wiring with its equations, and the update and bias shift of its site, as the plugin's own data say them."""
    rows = []
    for name, equations in WIRINGS.items():
        branch = "the last norm" if "N network" in equations else ""
        inner = "the network" if name == "post-norm" else ""
        spec = BlockSpec(wiring=name, mixer="mixer", projection="projection", branch=branch, inner=inner)
        block = types.SimpleNamespace(spec=spec)
        rows.append((f"`{name}`", f"`{equations}`", *NETWORKS[name](block).formulas()))  # type: ignore[arg-type]
    return rows


def _between(name: str) -> str:
    return rf"(<!-- {name}: written by tests/lm/table\.py -->)(.*?)(<!-- end of {name} -->)"


def main() -> None:
    """Compute everything and write it."""
    torch.set_num_threads(1)
    write("wirings", table(WIRING_HEADER, wirings()))
    rows = [measure(model_type) for model_type in EVERY]
    write("families", f"{count()}\n\n{table(HEADER, (row.cells() for row in rows))}")
    wrong = [(name, each[0], f"{error_of(name):.1g}") for name, each in WRONG.items()]
    write("wrong", table(("left out or misplaced", "model", "error"), wrong))


if __name__ == "__main__":
    main()
