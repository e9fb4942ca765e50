"""The style of figures, for plugins that draw pictures of their own."""

from ctxblocks.runs.style import figure_style as figure_style
