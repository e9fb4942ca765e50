"""A response of a language model generated again without its prompt, from one update for each token [Cor. 2.6.1].

Run it with `python examples/generate_without_prompt.py` (half a minute). The model is Llama-style with random weights,
12 blocks of width 256; the prompt has 64 tokens, which the second run never reads.
"""

import argparse

import torch
from ctxblocks_transformers import replay
from transformers import LlamaConfig, LlamaForCausalLM


def model_in(dtype: torch.dtype, spread: float) -> LlamaForCausalLM:
    """The model; norms are random too, since ones would hide errors."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=8192,
        max_position_embeddings=512,
        initializer_range=spread,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.to(dtype).eval()


def main() -> None:
    """Generate and compare in every dtype asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--spread", type=float, default=0.06, help="standard deviation of the weights")
    options = parser.parse_args()
    prompt = torch.randint(3, 8192, (1, 64), generator=torch.Generator().manual_seed(0))
    for name in options.dtypes:
        model = model_in(getattr(torch, name), options.spread)
        found = replay(model, prompt, options.tokens)
        print(f"{name}, {options.tokens} tokens, {len(set(found.tokens.tolist()))} of them distinct:")
        print(
            f"  the same token without the prompt: {found.agreement:.0%}, without updates too: {found.plain_agreement:.0%}"
        )
        print(f"  largest difference of logits: {max(each.full for each in found.differences):.2e}")
        print(f"    relative to the largest logit: {found.relative:.2e}")
        print(f"  played again from the updates alone: {float((found.play() == found.tokens).double().mean()):.0%}")


if __name__ == "__main__":
    main()
