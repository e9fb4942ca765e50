"""The report of a run: one page that needs nothing beside itself."""

import re

import jinja2

from ctxblocks.experiments._captions import describe_model, describe_run
from ctxblocks.experiments._claims import final_losses
from ctxblocks.experiments._metrics import Metrics
from ctxblocks.experiments._record import Record


def render(record: Record, metrics: Metrics, pictures: dict[int, str]) -> str:
    """The page.

    Args:
        record: of the complete run.
        metrics: its numbers.
        pictures: the figures as SVG, by number.
    """
    config = record.configuration
    page = jinja2.Environment(
        loader=jinja2.PackageLoader("ctxblocks.experiments", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("_report.html.jinja")
    losses = {model.name: final_losses(metrics, model.name) for model in config.models}
    return page.render(
        record=record,
        config=config,
        held=sum(claim.holds for claim in record.claims),
        losses=losses,
        models=[describe_model(config, model) for model in config.models],
        settings=describe_run(config),
        pictures={number: inline(svg, f"figure{number}-") for number, svg in pictures.items()},
    )


def inline(svg: str, prefix: str) -> str:
    """An SVG document as an element of a page: no prologue, and names that no other one on the page has."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\bid="', f'id="{prefix}', element)
    return re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\1{prefix}", element)
