"""One hash for the rows of a run, whatever their order, their units and their files: the oracle of the fault tests."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from rampipe.tables.fingerprint import canonical_json


class RowSetHash:
    """Collects digests of samples and errors; equal digests for equal rows, null and 0.0 differ."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []

    def add(self, *, head_stats: pa.Table, samples: pa.Table, errors: pa.Table) -> None:
        """Add the tables of one unit. All rows of one sample must be in one call."""
        self.add_rows(head_stats=head_stats, samples=samples, errors=errors)

    def add_rows(self, **tables: pa.Table) -> None:
        """Add the tables of one unit of any kind of run; every row counts by itself, but for those of head_stats."""
        for name, table in tables.items():
            if name == "head_stats":
                self._digests += _head_stats_digests(table)
            else:
                self._digests += [_digest(name.encode(), canonical_json(row)) for row in table.to_pylist()]

    def hexdigest(self) -> str:
        """64 hex digits over everything added, in sorted order; duplicates count."""
        return hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()


def _head_stats_digests(table: pa.Table) -> list[bytes]:
    """One digest per sample over its rows, sorted by query, layer and head."""
    if table.num_rows == 0:
        return []
    table = table.sort_by([(name, "ascending") for name in ("sample_id", "query", "layer", "head")]).combine_chunks()
    rows = np.concatenate([_cells(table.column(name)) for name in table.column_names if name != "sample_id"], axis=1)
    ids = table.column("sample_id").combine_chunks().dictionary_encode()
    starts = np.flatnonzero(np.diff(ids.indices.to_numpy(), prepend=-1))
    return [
        _digest(b"head_stats", sample_id.encode(), block.tobytes())
        for sample_id, block in zip(ids.dictionary.to_pylist(), np.split(rows, starts[1:]), strict=True)
    ]


def _cells(column: pa.ChunkedArray) -> UInt8[np.ndarray, "row byte"]:
    """A column as fixed-width bytes: a flag for null, then the value (little endian), or a text's sha256."""
    null = column.is_null().to_numpy().astype(np.uint8)[:, None]
    if pa.types.is_string(column.type):
        encoded = column.combine_chunks().dictionary_encode()
        hashes = [list(hashlib.sha256(text.encode()).digest()) for text in encoded.dictionary.to_pylist()]
        values = np.array(hashes, dtype=np.uint8)[encoded.indices.to_numpy(zero_copy_only=False)]
    else:
        kind = np.dtype(column.type.to_pandas_dtype()).newbyteorder("<")
        filled = np.ascontiguousarray(column.fill_null(0).to_numpy().astype(kind, copy=False))
        values = filled.view(np.uint8).reshape(len(filled), kind.itemsize)
    return np.concatenate([null, values], axis=1)


def _digest(*parts: bytes) -> bytes:
    """sha256 over length-prefixed parts."""
    made = hashlib.sha256()
    for part in parts:
        made.update(len(part).to_bytes(8, "little") + part)
    return made.digest()
