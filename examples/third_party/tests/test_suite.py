"""The conformance suite for the layer `mean-pool`, which is selected in `pyproject.toml`."""

from ctxblocks.testing.suite import *  # noqa: F403
