"""The families of `transformers`, as data."""

from ctxblocks import FamilySpec

FAMILIES: tuple[FamilySpec, ...] = ()
