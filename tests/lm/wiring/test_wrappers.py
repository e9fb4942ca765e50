"""The same blocks in other wrappers: without a head, next to a vision tower, with RoBERTa's positions, in half precision."""

import pytest
import torch
from ctxblocks_transformers import guess, transfer_model
from lm.tiny import config_of, prompt, randomise, tiny
from transformers import AutoModelForCausalLM, Gemma3Config

from ctxblocks import ShapeError

EXACT = 1e-10


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mamba", "bert"])
def test_a_model_without_a_head(model_type: str) -> None:
    """The last hidden states are restored; the family's path is used without its first name."""
    model = tiny(model_type).base_model
    update = transfer_model(model, prompt())
    assert update.report.relative <= EXACT < update.report.effect
    assert update.view(model).blocks[1].path in dict(model.named_modules())


def test_the_text_of_a_multimodal_model() -> None:
    """Gemma 3 with its vision tower, whose layers are nested deeper, is guessed, and exact for a prompt of text."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=config_of("gemma3_text").to_dict(), vision_config={**vision, "image_size": 28, "patch_size": 14}
    )
    model = randomise(AutoModelForCausalLM.from_config(config), 0).double().eval()
    update = transfer_model(model, prompt())
    assert update.family.layers == "model.language_model.layers"
    assert update.sites == ("network", "network")
    assert update.report.relative <= EXACT < update.report.effect


@pytest.mark.parametrize("model_type", ["roberta", "camembert"])
def test_positions_after_the_padding_tokens_number(model_type: str) -> None:
    """The full run is that of a plain call on the tokens, and fewer positions are available."""
    model = tiny(model_type)
    update = transfer_model(model, prompt())
    with torch.no_grad():
        assert torch.equal(update.full, model(prompt()).logits[0, -1])
    with pytest.raises(ShapeError, match="got 64 tokens, needs at most 63"):
        transfer_model(model, prompt(64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "olmo2", "gptj", "qwen3_moe", "granite", "bert", "minimax"])
def test_a_guess_in_half_precision(model_type: str, dtype: torch.dtype) -> None:
    """The wiring guessed in half precision is that guessed in float64."""
    assert guess(tiny(model_type, dtype)) == guess(tiny(model_type))
