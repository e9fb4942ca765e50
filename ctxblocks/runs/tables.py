"""Tables of runs as parquet files, written whole and read with the columns that are expected."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ctxblocks.base.errors import ArgumentError
from ctxblocks.runs.files import write_bytes


def write_table(table: pa.Table, path: Path) -> None:
    """Write a parquet file that appears whole."""
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    write_bytes(path, content.getvalue())


def read_table(path: Path, schema: pa.Schema, way_out: str) -> pa.Table:
    """The table of a file.

    Args:
        path: of the file.
        schema: the columns that it must have.
        way_out: what the error suggests to do otherwise.

    Raises:
        ArgumentError: the file is damaged or of another version.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ArgumentError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}), needs a whole file; {way_out}"
        ) from error
    if table.schema.remove_metadata() != schema:
        raise ArgumentError(f"{path}: holds other columns than this version's; {way_out}")
    return table
