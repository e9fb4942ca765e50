"""The conformance suite on this distribution's layer; `pyproject.toml` names it."""

from ctxblocks.testing.suite import *  # noqa: F403
