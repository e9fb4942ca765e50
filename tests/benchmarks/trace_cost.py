"""What `trace` costs beside one forward pass and beside a pass for every prefix, in time and in peak memory.

    python tests/benchmarks/trace_cost.py
    python tests/benchmarks/trace_cost.py --device cuda --dtype bfloat16 --width 2048 --blocks 16 --tokens 2048

A Llama-style model with random weights. Repeats are interleaved in one process and medians are printed; the loop over
prefixes is run once, whole. Memory is what a call holds at its peak beyond the model: on a CPU the sum of the live
storages, on a GPU the allocator's own.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ctxblocks_transformers import trace
from transformers import LlamaConfig, LlamaForCausalLM

from ctxblocks.bench.counting import count_work


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one setting."""
    device = torch.device(options.device)
    model = _model(options).to(device, getattr(torch, options.dtype)).eval()
    generator = torch.Generator().manual_seed(options.seed)
    ids = torch.randint(3, options.vocabulary, (1, options.tokens), generator=generator).to(device)
    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: _forward(model, ids),
        "trace, last": lambda: trace(model, ids),
        "trace, every": lambda: trace(model, ids, queries="every"),
    }
    found = calls["trace, last"]()
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.repeats):
        for name, call in calls.items():
            seconds[name].append(_seconds(call, device))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    medians["loop"] = _seconds(lambda: _loop(model, ids), device)
    memory = {name: count_work(call, device).memory for name, call in calls.items()}
    return {
        "setting": vars(options),
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "route": found.route,
        "deviation": found.deviation,
        "seconds": medians,
        "memory": memory,
        "ratios": {
            "trace, last / forward": medians["trace, last"] / medians["forward"],
            "trace, every / forward": medians["trace, every"] / medians["forward"],
            "loop / trace, last": medians["loop"] / medians["trace, last"],
            "trace, last / forward, memory": memory["trace, last"] / memory["forward"],
            "trace, every / forward, memory": memory["trace, every"] / memory["forward"],
        },
    }


def _model(options: argparse.Namespace) -> Any:
    torch.manual_seed(options.seed)
    config = LlamaConfig(
        hidden_size=options.width,
        intermediate_size=options.hidden or 8 * -(-options.width // 3),
        num_hidden_layers=options.blocks,
        num_attention_heads=options.width // 64,
        num_key_value_heads=options.width // 64,
        vocab_size=options.vocabulary,
        max_position_embeddings=max(2048, options.tokens),
    )
    return LlamaForCausalLM(config)


def _forward(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, use_cache=False).logits


def _loop(model: Any, ids: torch.Tensor) -> None:
    """One forward pass for every prefix, each with the query behind it, without its head."""
    with torch.no_grad():
        for i in range(ids.shape[1]):
            model.model(torch.cat((ids[:, :i], ids[:, -1:]), dim=1), use_cache=False)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 512), ("hidden", 0), ("blocks", 12), ("tokens", 512), ("vocabulary", 32000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    json.dump(measure(parser.parse_args(arguments)), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
