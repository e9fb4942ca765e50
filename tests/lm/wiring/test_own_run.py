"""The full run is the model's own: positions that a model numbers otherwise are used, or the model is refused."""

from typing import Any

import pytest
import torch
from ctxblocks_transformers import transfer_model
from lm.tiny import prompt, tiny
from transformers import NystromformerConfig, NystromformerForMaskedLM, YosoConfig, YosoForMaskedLM

from ctxblocks import ArgumentError

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
}
IDS = torch.arange(3, 11)[None]


@pytest.mark.parametrize(
    "build",
    [
        lambda: NystromformerForMaskedLM(NystromformerConfig(**SIZES, num_landmarks=8, segment_means_seq_len=8)),
        lambda: YosoForMaskedLM(YosoConfig(**SIZES, use_expectation=True)),
    ],
    ids=["nystromformer", "yoso"],
)
def test_positions_that_start_at_two(build: Any) -> None:
    """The full output is that of a plain call."""
    torch.manual_seed(0)
    model = build().double().eval()
    with torch.no_grad():
        own = model(IDS).logits[0, -1]
    update = transfer_model(model, IDS)
    torch.testing.assert_close(update.full, own, rtol=1e-10, atol=1e-10)
    assert update.report.relative <= 1e-6


def test_a_model_with_positions_of_its_own_is_refused() -> None:
    """Positions that it derives from the tokens in another way, such as backwards."""
    model: Any = tiny("gpt2")
    plain = model.forward

    def forward(input_ids: Any = None, position_ids: Any = None, **rest: Any) -> Any:
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1]).flip(0)[None]
        return plain(input_ids, position_ids=position_ids, **rest)

    model.forward = forward
    with pytest.raises(ArgumentError, match="its own run on the prompt differs"):
        transfer_model(model, prompt())
