"""Wrong arguments and models that cannot be followed: one typed line, never an error of another library."""

import contextlib
from typing import Any

import pytest
import torch
import transformers
from ctxblocks_transformers import LoadError, load_skeleton, prompt_tokens, replay, trace, transfer_model
from lm.tiny import config_of, prompt, tiny
from transformers import CONFIG_MAPPING, AutoModel, LlamaForSequenceClassification

from ctxblocks import ArgumentError, CtxblocksError

CALLS: dict[str, Any] = {
    "transfer_model": transfer_model,
    "trace": trace,
    "replay": lambda model, ids, **options: replay(model, ids, 2, **options),
}
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "dim_model", "embedding_size"), 32),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_hidden_layers"), 2),
    **dict.fromkeys(("intermediate_size", "d_inner", "dim_ff"), 48),
    **dict.fromkeys(("d_head", "dim_head"), 16),
    "vocab_size": 61,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("keep", ("first", 5, object(), [99], ["0"], [None], [0.5], [True], [1, 1])),
        ("family", ("llama", 5, {})),
        ("solver", ("a", 5, None)),
        ("site", (None, 5, "head")),
    ],
)
def test_wrong_options(call: str, option: str, values: Any) -> None:
    """Named with what was got."""
    for value in values:
        with pytest.raises(ArgumentError, match=option):
            CALLS[call](tiny("llama"), prompt(), **{option: value})


@pytest.mark.parametrize("value", ["a", 99, 1.5, None, True, [1]])
def test_wrong_queries(value: Any) -> None:
    """Named with what was got."""
    with pytest.raises(ArgumentError, match="query: got position"):
        transfer_model(tiny("llama"), prompt(), query=value)


@pytest.mark.parametrize("value", ["3", 0, -1, 2.5, True, None])
def test_wrong_numbers_of_steps(value: Any) -> None:
    """Named with what was got."""
    with pytest.raises(ArgumentError, match="max_new_tokens: got"):
        replay(tiny("llama"), prompt(), value)


@pytest.mark.parametrize("tokens", ["a,b", "1.5,2", "9" * 40, "-1,2", [1, "x"], [None]])
def test_wrong_tokens(tokens: Any) -> None:
    """Numbers of the command line and of lists."""
    with pytest.raises(ArgumentError, match="tokens: got"):
        prompt_tokens(tiny("llama"), None, tokens=tokens)


def test_a_prompt_that_is_no_text() -> None:
    """Bytes that are no UTF-8 arrive as lone surrogates."""
    with pytest.raises(ArgumentError, match="no UTF-8"):
        prompt_tokens(tiny("llama"), object(), b"caf\xe9".decode(errors="surrogateescape"))


def test_one_output_for_the_whole_prompt() -> None:
    """A classifier of texts; without its head it works."""
    model = LlamaForSequenceClassification(config_of("llama")).double().eval()
    with pytest.raises(ArgumentError, match=r"gives 1 output\(s\) for 7 tokens"):
        transfer_model(model, prompt())
    assert transfer_model(model.base_model, prompt()).report.relative <= 1e-10


def test_a_trace_under_autocast() -> None:
    """Refused; an update, all of whose passes round alike, is made."""
    model = tiny("llama", torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(ArgumentError, match="under autocast"):
            trace(model, prompt())
        transfer_model(model, prompt())


@pytest.mark.parametrize("model_type", ["squeezebert", "longformer", "cpmant", "canine", "vit"])
def test_models_that_cannot_be_followed(model_type: str) -> None:
    """They work, or one line says why not; nothing else is raised."""
    config = CONFIG_MAPPING[model_type]()
    for name, size in SMALL.items():
        if hasattr(config, name):
            with contextlib.suppress(Exception):  # what a configuration derives from others cannot be set
                setattr(config, name, size)
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    for call in (transfer_model, trace):
        with contextlib.suppress(CtxblocksError):
            call(model, prompt())


@pytest.mark.parametrize("layers", [0, -1, 10**9])
def test_configurations_of_no_layers_or_too_many(layers: int, tmp_path: Any) -> None:
    """Refused before anything is built."""
    config = config_of("llama")
    config.num_hidden_layers = layers
    transformers.utils.logging.set_verbosity_error()
    (tmp_path / "config.json").write_text(config.to_json_string(use_diff=False))
    with pytest.raises((ArgumentError, LoadError), match=f"{layers} layers|cannot be read"):
        load_skeleton(tmp_path)
