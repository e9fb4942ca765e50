"""Folders with tiny models and tokenizers, as `save_pretrained` writes them."""

from pathlib import Path
from typing import Any

import torch
from lm.tiny import tiny
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = ("<pad>", "<s>", "</s>", *(f"w{i}" for i in range(57)), "<unk>")
"""One word for each of the 61 tokens of a tiny model."""


def model_folder(
    folder: Path, model_type: str, dtype: torch.dtype = torch.float32, tokenizer: bool = True, **options: Any
) -> Path:
    """A tiny random model in a folder, with a tokenizer of words by default."""
    tiny(model_type, dtype, **options).save_pretrained(folder)
    if tokenizer:
        words().save_pretrained(folder)
    return folder


def words() -> PreTrainedTokenizerFast:
    """A tokenizer that splits `w0 w1 …` at spaces."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
