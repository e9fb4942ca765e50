from .content import (
    Curve as Curve,
    Figure as Figure,
    Mean as Mean,
    Page as Page,
    Panel as Panel,
    Section as Section,
    Statement as Statement,
    Table as Table,
)
from .page import render as render
from .sources import read_sections as read_sections, write_page as write_page, write_report as write_report
from .style import figure_style as figure_style
