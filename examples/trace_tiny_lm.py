"""The effect of every byte of a prompt on the weights of every block, in trained models and their untrained twins.

Run it with `python examples/trace_tiny_lm.py`: it trains the models of `train_tiny_lm.py` first where FOLDER lacks them
(some minutes; `--steps 20` for seconds), traces stretches of source code that they were not trained on, and draws the
first as a heatmap. The query is a prompt's last byte, and the prompt is given to it byte by byte.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
import train_tiny_lm
from ctxblocks_transformers import trace
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

matplotlib.use("Agg")
from matplotlib import pyplot as plt

LENGTH = 97
"""Bytes of a prompt, the query among them."""


def prompts(count: int) -> list[Tensor]:  # (1, LENGTH) each
    """Stretches of the text held out, evenly spread."""
    _, unknown = train_tiny_lm.texts()
    starts = torch.linspace(0, len(unknown) - LENGTH, count).long().tolist()
    return [unknown[start : start + LENGTH].long().unsqueeze(0) for start in starts]


def marginals(folder: Path, stretches: list[Tensor]) -> Tensor:  # (prompts, blocks, LENGTH − 1)
    """`‖W_{i+1} − W_i‖_F`: the change of the weights by byte `i`."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return torch.stack([trace(model, ids).measure("marginal-change") for ids in stretches])


def settling(found: Tensor) -> Tensor:  # (prompts, blocks, n) -> (prompts, blocks)
    """Mean marginal change in a prompt's last quarter over that in its first: 1 if late and early bytes have the same effect."""
    quarter = found.shape[-1] // 4
    return found[..., -quarter:].mean(-1) / found[..., :quarter].mean(-1)


def repeating(found: Tensor, stretches: list[Tensor]) -> Tensor:  # (prompts, blocks, n) -> (some prompts, blocks)
    """Mean marginal change of bytes that continue a run of one byte (the third and later) over that of other bytes.

    Of prompts with at least five such bytes, the first eight and the last left out.
    """
    context = torch.stack([ids[0, :-1] for ids in stretches])
    now, before, earlier = context[:, 8:-1], context[:, 7:-2], context[:, 6:-3]
    same, other = (now == before) & (now == earlier), now != before
    some = same.sum(1) >= 5
    steps = found[some][..., 8:-1]
    means = [(steps * each[some, None]).sum(-1) / each[some].sum(1)[:, None] for each in (same, other)]
    return means[0] / means[1]


def tell(what: str, trained: Tensor, untrained: Tensor) -> None:
    """Medians of a ratio block by block, and how often training has made it larger."""
    print(f"{what}: marginal change, medians of {len(trained)} prompts:")
    for block in range(trained.shape[1] if len(trained) else 0):
        mine, twin = trained[:, block], untrained[:, block]
        more = int((mine > twin).sum())
        print(f"  block {block}: {mine.median():.2f} trained, {twin.median():.2f} untrained; trained above on {more}")


def draw(panels: dict[str, Tensor], labels: list[str], path: Path) -> None:
    """One panel for each model: blocks by bytes, each block relative to its largest change."""
    figure, axes = plt.subplots(len(panels), 1, figsize=(16, 2 * len(panels)), layout="constrained")
    for axis, (name, found) in zip(axes, panels.items(), strict=True):
        axis.imshow(found / found.amax(-1, keepdim=True), aspect="auto", cmap="viridis", vmin=0, vmax=1)
        axis.set(title=name, ylabel="block", yticks=range(len(found)))
        axis.set_xticks(range(len(labels)), labels, fontsize=7, family="monospace")
    figure.savefig(path)


def main() -> None:
    """Train the missing models, trace, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("tiny-lm"), metavar="FOLDER", help="of train_tiny_lm.py")
    parser.add_argument("--steps", type=int, default=600, help="training steps of models that are missing")
    parser.add_argument("--seed", type=int, default=0, help="of models that are missing")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--figure", type=Path, default=Path("marginal-changes.png"))
    options = parser.parse_args()
    logging.disable_progress_bar()
    stretches, panels = prompts(options.prompts), {}
    missing = [name for name in train_tiny_lm.NAMES if not (options.models / name).exists()]
    if missing:
        train_tiny_lm.make_all(missing, options.models, options.steps, options.seed, "cpu")
    for name in train_tiny_lm.NAMES:
        pair = [marginals(options.models / path, stretches) for path in (name, f"{name}-untrained")]
        panels |= {name: pair[0][0], f"{name}-untrained": pair[1][0]}
        tell(f"{name}, last quarter of a prompt over the first", *map(settling, pair))
        tell(f"{name}, bytes that continue a run over other bytes", *(repeating(each, stretches) for each in pair))
    words = AutoTokenizer.from_pretrained(options.models / train_tiny_lm.NAMES[0])
    draw(panels, [words.decode([byte]) for byte in stretches[0][0, :-1].tolist()], options.figure)
    print(f"heatmap of the first prompt: {options.figure}")


if __name__ == "__main__":
    main()
