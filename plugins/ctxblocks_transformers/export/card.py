"""The card of an adapter: what it was made from, what it is for, and what was measured."""

from pathlib import Path
from typing import Any

from ctxblocks_transformers.export.changes import Update
from ctxblocks_transformers.export.usage import INSTEAD
from ctxblocks_transformers.wiring.difference import Difference

TEXT = """---
base_model: {base}
library_name: peft
tags:
- ctxblocks
---

# One prompt's effect on one query

This adapter stands for the context of one query. With it, `{name}` gives for token {token} alone, at position {position} of
the prompt{kept}, what the model gives for the whole prompt of {length} tokens.

It is for **this token at this position only**. For other tokens, other positions, and from the second token of `generate` on
its output means nothing: {instead}.

Call it with `input_ids=[{ids}]` and `position_ids=[{positions}]`, without a cache.

| measured with the adapter loaded ({dtype}) | |
|---|---|
| largest difference from the full prompt's output | {full:.3g} |
| relative to its largest entry | {relative:.3g} |
| effect of the prompt | {effect:.3g} |
| KL(full prompt, adapter), in nats | {kl:.3g} |
| the same most likely next token | {same} |
"""


def write_card(folder: Path, update: Update, model: Any, difference: Difference) -> None:
    """Write `README.md` into the adapter's folder."""
    positions, row = update.positions.tolist(), update.query
    kept = [place for t, place in enumerate(positions) if t != row]
    ids = update.input_ids[0, update.positions.to(update.input_ids.device)].tolist()
    (folder / "README.md").write_text(
        TEXT.format(
            base=model.config._name_or_path or "unknown",
            name=type(model).__name__,
            token=ids[row],
            position=positions[row],
            kept=f" after the kept tokens at {', '.join(map(str, kept))}" if kept else "",
            length=update.input_ids.shape[1],
            instead=INSTEAD,
            ids=", ".join(map(str, ids)),
            positions=", ".join(map(str, positions)),
            dtype=str(model.dtype).removeprefix("torch."),
            full=difference.full,
            relative=difference.relative,
            effect=difference.effect,
            kl=difference.kl,
            same="yes" if difference.same_top else "no",
        ),
        encoding="utf-8",
    )
