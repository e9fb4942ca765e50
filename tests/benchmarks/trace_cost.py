"""The time and peak memory of `trace`, compared with one forward pass and with a forward pass for every prefix.

    python tests/benchmarks/trace_cost.py
    python tests/benchmarks/trace_cost.py --device cuda --dtype bfloat16 --width 2048 --blocks 16 --tokens 2048

The model is a Llama with random weights. Repeats are interleaved in one process, and medians are printed; the loop over all
prefixes runs once. Memory is the peak of a call in addition to the model: on a CPU the sum of live storages, on a GPU that
of the allocator.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ctxblocks_transformers import trace
from transformers import LlamaConfig, LlamaForCausalLM

from ctxblocks.bench.counting import count_work
from ctxblocks.bench.timing import clock_of


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements for one setting."""
    device = torch.device(options.device)
    model = _model(options).to(device, getattr(torch, options.dtype)).eval()
    generator = torch.Generator().manual_seed(options.seed)
    ids = torch.randint(3, options.vocabulary, (1, options.tokens), generator=generator).to(device)
    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: _forward(model, ids),
        "trace, last": lambda: trace(model, ids),
        "trace, every": lambda: trace(model, ids, queries="every"),
    }
    traced = calls["trace, last"]()
    for call in calls.values():
        call()
    clock = clock_of(device)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.repeats):
        for name, call in calls.items():
            seconds[name].append(clock(call))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    medians["loop"] = clock(lambda: _loop(model, ids))
    memory = {name: count_work(call, device).memory for name, call in calls.items()}
    return {
        "setting": vars(options),
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "route": traced.route,
        "deviation": traced.deviation,
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
    """One forward pass, without the head, for every prefix followed by the query."""
    with torch.no_grad():
        for i in range(ids.shape[1]):
            model.model(torch.cat((ids[:, :i], ids[:, -1:]), dim=1), use_cache=False)


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
