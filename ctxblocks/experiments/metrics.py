"""The tidy table of a run: one number per row, with columns that identify it."""

import functools
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctxblocks.base.errors import ArgumentError
from ctxblocks.runs.statistics import Array

Where = Mapping[str, str | int | float]

SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("figure", pa.int32()),
        ("model", pa.string()),
        ("layer", pa.string()),
        ("control", pa.string()),
        ("step", pa.int32()),
        ("block", pa.int32()),
        ("task", pa.int32()),
        ("n", pa.int32()),
        ("lr", pa.float64()),
        ("quantity", pa.string()),
        ("value", pa.float64()),
    ]
)
"""`n` counts context tokens, or steps of SGD; a column is null where it does not apply to the number."""


@attrs.frozen(kw_only=True)
class Tag:
    """The columns that all rows of one measurement share; see `SCHEMA`.

    Attributes:
        run: the name of the configuration.
        figure: the first figure that shows the number.
        model: the model that was measured.
        layer: its contextual layer.
        quantity: the name of the measured quantity.
        control: `trained`, or the control: `untrained`, `wrong-task`.
        step: of training.
        lr: of SGD.
    """

    run: str
    figure: int
    model: str
    layer: str
    quantity: str
    control: str = "trained"
    step: int | None = None
    lr: float | None = None


def tidy(tag: Tag, values: Array, axes: Mapping[str, Sequence[int]]) -> pa.Table:
    """A table with one row per value.

    Args:
        tag: the columns that all rows share.
        values: with one dimension for each axis.
        axes: columns of the schema with the coordinates along them, in the order of the dimensions.
    """
    shape = tuple(len(coordinates) for coordinates in axes.values())
    if values.shape != shape:
        raise ArgumentError(f"values of {tag.quantity!r}: got shape {values.shape}, needs {shape} by its axes")
    grid = np.meshgrid(*(np.asarray(coordinates) for coordinates in axes.values()), indexing="ij")
    columns = {name: pa.array(part.ravel(), SCHEMA.field(name).type) for name, part in zip(axes, grid, strict=True)}
    columns["value"] = pa.array(np.asarray(values, dtype=np.float64).ravel())
    fixed = attrs.asdict(tag)
    arrays = [
        columns[field.name] if field.name in columns else pa.array([fixed.get(field.name)] * values.size, field.type)
        for field in SCHEMA
    ]
    return pa.table(arrays, schema=SCHEMA)


@attrs.frozen
class Metrics:
    """The numbers of a run, looked up by their columns."""

    table: pa.Table

    def array(self, where: Where, *axes: str) -> Array:
        """The values of the rows that match `where`, with one dimension for each of the columns named.

        Raises:
            ArgumentError: there is not exactly one row for each place in the array.
        """
        rows = self._rows(where)
        keys = [rows[axis].to_numpy() for axis in axes]
        shape = tuple(len(np.unique(key)) for key in keys)
        if len(rows) != np.prod(shape, dtype=int) or not len(rows):
            raise ArgumentError(
                f"metrics: got {len(rows)} rows for {dict(where)}, needs one for each place of {shape} "
                f"by {', '.join(axes) or 'no axis'}; name more columns"
            )
        values: Array = rows["value"].to_numpy()
        return values[np.lexsort(keys[::-1])].reshape(shape) if axes else values.reshape(())

    def coordinates(self, where: Where, axis: str) -> Array:
        """The values of a column in the rows that match `where`, in increasing order."""
        return np.unique(self._rows(where)[axis].to_numpy())

    def _rows(self, where: Where) -> pa.Table:
        masks = [pc.equal(self.table[name], value) for name, value in where.items()]
        return self.table.filter(functools.reduce(pc.and_, masks)) if masks else self.table
