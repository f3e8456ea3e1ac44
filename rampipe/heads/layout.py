"""Which rows of a file of `head_stats` are which head's, found once for all files whose keys are stored alike."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from rampipe.types import HeadId, QueryGroup

KEYS = ("query", "layer", "head")
_MAX_KNOWN = 256
"""Files of one run differ in their keys only where their numbers of samples do."""


@runtime_checkable
class Rows(Protocol):
    """A part that is open."""

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns; text is dictionary-encoded."""
        ...

    def stored(self, columns: Sequence[str]) -> bytes:
        """Something that two parts share only when these columns hold the same values."""
        ...


@runtime_checkable
class Part(Protocol):
    """Some rows of `head_stats`, such as one committed file."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def open(self) -> AbstractContextManager[Rows]:
        """The rows while they are read."""
        ...


@dataclass(frozen=True, slots=True)
class Layouts:
    """Finds out whether rows are as our writer leaves them: for one sample and query group after the other, all heads
    in order. Where they are, every group is `len(heads)` rows, and keys need not be looked at row by row.

    Keys are decoded and checked for the first file. The next one has the same keys when their stored bytes are the
    same, about 1.5 kB: that is compared in a 40th of the time, and proves as much.
    """

    query: QueryGroup
    heads: tuple[HeadId, ...]
    known: dict[bytes, Bool[np.ndarray, " group"] | None] = field(default_factory=dict[bytes, "np.ndarray | None"])

    def find(self, rows: Rows) -> Bool[np.ndarray, " group"] | None:
        """Which groups are of the query; None when rows are in another order, or some are absent or doubled."""
        stored = rows.stored(KEYS)
        if stored in self.known:
            return self.known[stored]
        found = self._read(rows.read(KEYS))
        if len(self.known) < _MAX_KNOWN:
            self.known[stored] = found
        return found

    def _read(self, table: pa.Table) -> Bool[np.ndarray, " group"] | None:
        num_heads = len(self.heads)
        if table.num_rows % num_heads:
            return None
        table = table.unify_dictionaries().combine_chunks()
        names, codes = encoded(table, "query")
        by_group = codes.reshape(-1, num_heads)
        layer, head = (table.column(name).to_numpy().reshape(-1, num_heads) for name in ("layer", "head"))
        regular = (
            (by_group == by_group[:, :1]).all()
            and (layer == np.array([found.layer for found in self.heads], dtype=layer.dtype)).all()
            and (head == np.array([found.head for found in self.heads], dtype=head.dtype)).all()
        )
        wanted = names.index(self.query) if self.query in names else -1
        return by_group[:, 0] == wanted if regular else None


def encoded(table: pa.Table, name: str) -> tuple[list[str], Int[np.ndarray, " row"]]:
    """Values of a dictionary-encoded column of one chunk, and the index of each row's."""
    chunks = table.column(name).chunks
    if not chunks:
        return [], np.zeros(0, dtype=np.int64)
    (chunk,) = chunks
    return chunk.dictionary.to_numpy(zero_copy_only=False).tolist(), chunk.indices.to_numpy(zero_copy_only=False)
