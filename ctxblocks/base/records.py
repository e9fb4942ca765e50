"""Records of tensors: frozen dataclasses registered as pytrees, which `vmap` and `torch.compile` accept."""

import dataclasses
from typing import Any, TypeVar

from torch.utils import _pytree as pytree

T = TypeVar("T")

STATIC = {"static": True}
"""Marks a field that holds no tensors: `dataclasses.field(default=…, metadata=STATIC)`."""


def record(cls: type[T]) -> type[T]:
    """Register a frozen dataclass as a pytree.

    Fields with `metadata=STATIC` are part of the tree's structure, and so are fields that are None, since `vmap` cannot
    return None. All other fields are children: tensors or other records.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    children = tuple(f.name for f in fields if not f.metadata.get("static"))

    def flatten(value: T) -> tuple[list[Any], tuple[tuple[str, ...], tuple[tuple[str, Any], ...]]]:
        present = tuple(name for name in children if getattr(value, name) is not None)
        rest = tuple((f.name, getattr(value, f.name)) for f in fields if f.name not in present)
        return [getattr(value, name) for name in present], (present, rest)

    def unflatten(values: Any, context: tuple[tuple[str, ...], tuple[tuple[str, Any], ...]]) -> T:
        present, rest = context
        return cls(**dict(zip(present, values, strict=True)), **dict(rest))

    pytree.register_pytree_node(cls, flatten, unflatten, serialized_type_name=f"{cls.__module__}.{cls.__qualname__}")
    return cls
