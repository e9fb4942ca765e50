"""A trace as one self-contained HTML page."""

import html
import json
import math
from collections.abc import Sequence

import jinja2

from ctxblocks_transformers.prefixes.columns import columns_of, middle
from ctxblocks_transformers.prefixes.measures import MEASURES
from ctxblocks_transformers.prefixes.prompt_dynamics import PromptDynamics


def page(dynamics: PromptDynamics, tokens: Sequence[str] | None = None, title: str = "trace") -> str:
    """The prompt with every token coloured by its effect, above a heatmap of blocks × tokens, for every measure.

    Args:
        dynamics: a trace.
        tokens: the texts of the prompt's tokens; by default their indices in the vocabulary.
        title: the title of the page, such as the model's name.
    """
    columns = columns_of(dynamics, tokens)
    data = {
        "tokens": columns.tokens,
        "first": columns.first,
        "kept": dynamics.kept.positions,
        "measures": {
            name: {"what": MEASURES[name], "middle": middle(name), "values": [_rounded(row) for row in values.tolist()]}
            for name, values in columns.values.items()
        },
    }
    template = jinja2.Environment(
        loader=jinja2.PackageLoader("ctxblocks_transformers.prefixes", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("page.html.jinja")
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", " ").replace("\u2029", " ")
    return template.render(title=html.unescape(title), dynamics=dynamics, blocks=len(dynamics.sites), data=text)


def _rounded(row: list[float]) -> list[float]:
    """Five digits, which is finer than colours can show."""
    return [float(f"{value:.5g}") if math.isfinite(value) else 0.0 for value in row]
