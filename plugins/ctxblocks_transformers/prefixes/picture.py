"""A trace as a picture of blocks × tokens."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctxblocks.report import figure_style  # imports matplotlib, also where its environment is faulty

# isort: split

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ctxblocks_transformers.prefixes.columns import Columns, columns_of
from ctxblocks_transformers.prefixes.prompt_dynamics import PromptDynamics

NAMED = 80
"""Largest number of tokens at which each column is labelled with its token."""
DECADES = 4.0
"""Largest number of powers of ten that the colours span, from the largest value down."""
PANELS = {
    "marginal-change": "weights: change ‖Wᵢ₊₁ − Wᵢ‖ by each token",
    "marginal_shift": "bias shift: change ‖Δb′ᵢ₊₁ − Δb′ᵢ‖ by each token",
}


def picture(dynamics: PromptDynamics, tokens: Sequence[str] | None = None, title: str = "") -> bytes:
    """The change of every block's weights and bias shift by each token, as PNG with logarithmic colours.

    A panel without any change is omitted, such as that of the weights of parallel blocks.

    Args:
        dynamics: a trace.
        tokens: the texts of the prompt's tokens; by default their indices in the vocabulary.
        title: the title of the picture.
    """
    columns = columns_of(dynamics, tokens)
    shown = [name for name in PANELS if bool((columns.values[name] > 0).any())]
    count = columns.values["marginal-change"].shape[1]
    blocks = len(dynamics.sites)
    width = min(40.0, max(6.0, 2.5 + 0.22 * count if count <= NAMED else 14.0))
    height = len(shown) * (1.6 + min(6.0, max(1.2, 0.18 * blocks))) + 0.6
    with figure_style({"font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        kept = f"{title} ({dynamics.kept})" if dynamics.kept.positions else title
        figure.suptitle(kept, fontsize=11)
        for axes, name in zip(np.atleast_1d(figure.subplots(max(1, len(shown)), 1)), shown, strict=False):
            _panel(figure, axes, columns, name)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def _panel(figure: Figure, axes: Any, columns: Columns, name: str) -> None:
    values = columns.values[name].double().numpy()  # (blocks, tokens)
    most = float(values.max())
    least = max(float(values[values > 0].min()), most / 10**DECADES)
    norm = LogNorm(min(least, most * 0.999), most)
    image = axes.imshow(
        np.clip(values, norm.vmin, None), aspect="auto", norm=norm, cmap="cividis", interpolation="nearest"
    )
    axes.set_title(PANELS[name], loc="left", fontsize=9)
    axes.set_ylabel("block")
    axes.yaxis.get_major_locator().set_params(integer=True)
    names = [_short(token) for token in columns.tokens[columns.first :][: values.shape[1]]]
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, family="monospace", fontsize=8)
    else:
        step = 10 ** max(1, int(math.log10(len(names))) - 1) * 2
        axes.set_xticks(range(0, len(names), step), [str(columns.first + i) for i in range(0, len(names), step)])
        axes.set_xlabel("token")
    figure.colorbar(image, ax=axes, pad=0.01)


def _short(token: str) -> str:
    """A token's text for an axis label: with visible spaces, and without characters that start mathematics."""
    text = token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣").replace("$", r"\$")
    return text if len(text) <= 12 else text[:11] + "…"
