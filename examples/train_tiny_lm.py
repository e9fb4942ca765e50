"""Two small language models, a Llama and a RecurrentGemma, trained on the source code of Python's standard library.

Run it with `python examples/train_tiny_lm.py --out FOLDER`; on two CPU cores it takes some minutes, `--steps 20` seconds.
Each model is trained in a separate process on one thread, so that its weights do not depend on the number of cores.
Tokens are bytes. Beside each model its untrained twin is saved, of the same seed after no step: the control for whatever
is seen in the trained one. Each folder holds a tokenizer, so that `AutoTokenizer.from_pretrained` reads it.
"""

import argparse
import concurrent.futures
import itertools
import math
import multiprocessing
import os
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is fetched from anywhere

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)

NAMES = ("llama", "recurrent-gemma")
HELD_OUT = ("calendar", "heapq", "shlex", "statistics", "textwrap")
"""Modules that no model is trained on."""
WINDOW, BATCH = 256, 8
SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def build(name: str, seed: int) -> Any:
    """An untrained model."""
    torch.manual_seed(seed)
    if name == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                **SIZES,
                num_hidden_layers=4,
                num_key_value_heads=2,
                max_position_embeddings=2 * WINDOW,
                tie_word_embeddings=True,
            )
        )
    sizes = SIZES | {"intermediate_size": 2 * SIZES["intermediate_size"]}  # of which its network takes half
    return RecurrentGemmaForCausalLM(
        RecurrentGemmaConfig(**sizes, num_hidden_layers=3, attention_window_size=WINDOW // 2)
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes: the index of a token is the byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that ByteLevel leaves unchanged
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
    bytewise = Tokenizer(models.BPE(vocab=letters, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, clean_up_tokenization_spaces=False)


def texts() -> tuple[Tensor, Tensor]:
    """Bytes to train on and bytes held out: the modules of the standard library that are single files."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))
    known = b"".join(path.read_bytes() for path in files if path.stem not in HELD_OUT)
    unknown = b"".join(path.read_bytes() for path in files if path.stem in HELD_OUT)
    return torch.frombuffer(bytearray(known), dtype=torch.uint8), torch.frombuffer(
        bytearray(unknown), dtype=torch.uint8
    )


def windows(text: Tensor, starts: Tensor, device: str) -> Tensor:  # (N,), (B,) -> (B, WINDOW + 1)
    """Stretches of a text."""
    return text[starts[:, None] + torch.arange(WINDOW + 1)].long().to(device)


def loss(model: Any, tokens: Tensor) -> Tensor:
    """Bits per byte: each is predicted from those before it in its window."""
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()) / math.log(2)


@torch.no_grad()
def held_out(model: Any, text: Tensor, device: str) -> float:
    """Bits per byte on 64 stretches, evenly spread."""
    starts = torch.linspace(0, len(text) - WINDOW - 1, 64).long()
    return sum(float(loss(model, windows(text, part, device))) for part in starts.split(BATCH)) / (64 / BATCH)


def train(model: Any, text: Tensor, steps: int, seed: int, device: str) -> None:
    """AdamW on random stretches, with a warm-up and a cosine."""
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    warm = min(20, max(1, steps // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, 0.05 + 0.95 * (1 + math.cos(math.pi * step / max(1, steps))) / 2),
    )
    model.train()
    for _ in range(steps):
        starts = torch.randint(len(text) - WINDOW, (BATCH,), generator=draw)
        loss(model, windows(text, starts, device)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval()


def make(name: str, out: Path, steps: int, seed: int, device: str) -> None:
    """Train one model and save it, its untrained twin and their tokenizer."""
    known, unknown = texts()
    model, words, begun = build(name, seed).to(device).eval(), tokenizer(), time.perf_counter()
    before = held_out(model, unknown, device)
    for path in (out / f"{name}-untrained", out / name):
        if path == out / name:
            train(model, known, steps, seed, device)
        model.save_pretrained(path)
        words.save_pretrained(path)
    size, took = sum(p.numel() for p in model.parameters()), time.perf_counter() - begun
    print(
        f"{name}: {size / 1e6:.2f} million parameters, {steps} steps in {took:.0f} s; "
        f"held-out bits per byte {before:.3f} before and {held_out(model, unknown, device):.3f} after; in {out / name}"
    )


def make_all(names: Sequence[str], out: Path, steps: int, seed: int, device: str) -> None:
    """Train models in parallel."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        len(names), mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        list(pool.map(make, names, *map(itertools.repeat, (out, steps, seed, device))))


def main() -> None:
    """Train the models asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("tiny-lm"), help="folder for the models")
    parser.add_argument("--steps", type=int, default=600, help="training steps")
    parser.add_argument("--model", choices=(*NAMES, "both"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    device = options.device if options.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    make_all(NAMES if options.model == "both" else (options.model,), options.out, options.steps, options.seed, device)


if __name__ == "__main__":
    main()
