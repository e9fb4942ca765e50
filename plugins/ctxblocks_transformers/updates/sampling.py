"""The next token from logits: the likeliest, or drawn by a given random number."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ctxblocks import ArgumentError
from ctxblocks.validators import at_least


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a token is chosen from logits. Without any of the three the likeliest token is taken.

    Attributes:
        temperature: what the logits are divided by.
        top_k: how many of the likeliest tokens may be drawn.
        top_p: the probability that the likeliest tokens which may be drawn have together.

    Raises:
        ArgumentError: one is outside its range.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("top_p", self.top_p)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < float("inf")):
                raise ArgumentError(
                    f"{name}: got {value!r}, needs a number above 0; leave it out for greedy generation"
                )
        if self.top_p is not None and self.top_p > 1:
            raise ArgumentError(f"top_p: got {self.top_p!r}, needs a probability, at most 1")
        if self.top_k is not None:
            at_least(1).check("top_k", self.top_k)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature is None and self.top_k is None and self.top_p is None

    def choose(
        self,
        logits: Tensor,  # (vocabulary,)
        draw: Tensor | None,  # (), uniform in [0, 1)
    ) -> Tensor:  # ()
        """The token whose interval of cumulated probability holds the draw."""
        if self.greedy or draw is None:
            return logits.argmax()
        scores = logits.double().unsqueeze(0)
        for processor in self._processors():
            scores = processor(None, scores)
        total = scores[0].softmax(-1).cumsum(-1)
        place = draw.to(total) * total[-1]
        return torch.searchsorted(total, place, right=True).clamp_max(len(total) - 1)

    def _processors(self) -> list[Any]:
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        made: list[Any] = []
        if self.temperature is not None:
            made.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k is not None:
            made.append(TopKLogitsWarper(self.top_k))
        if self.top_p is not None:
            made.append(TopPLogitsWarper(float(self.top_p)))
        return made


class Stop:
    """When a response ends: after one of several tokens, or where its text ends with one of several strings.

    Raises:
        ArgumentError: strings are given without a tokenizer, or a token is no integer.
    """

    def __init__(self, eos: Any, strings: Any, tokenizer: Any) -> None:
        self.tokens = [] if eos is None else list(eos) if isinstance(eos, list | tuple | set) else [eos]
        for token in self.tokens:
            if not isinstance(token, int) or isinstance(token, bool):
                raise ArgumentError(f"eos_token_id: got {token!r}, needs a token's number, or several")
        strings = [strings] if isinstance(strings, str) else list(strings or ())
        if any(not isinstance(each, str) or not each for each in strings):
            raise ArgumentError(f"stop_strings: got {strings!r}, needs texts that are not empty")
        if strings and tokenizer is None:
            raise ArgumentError("stop_strings: got no tokenizer to read them, needs tokenizer=")
        self.criteria: Any = None
        if strings:
            from transformers import StopStringCriteria

            self.criteria = StopStringCriteria(tokenizer, strings)

    def after(self, tokens: list[int]) -> bool:
        """Whether the response ends here."""
        if tokens[-1] in self.tokens:
            return True
        return self.criteria is not None and bool(self.criteria(torch.tensor([tokens]), None).all())
