"""What every dataset looks like to the engine: shards to plan with, and rows to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from rampipe.config import DataConfig
from rampipe.errors import SampleError
from rampipe.types import Sample


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard as it was when the run was planned; all fields belong to the fingerprint.

    path: relative to the dataset root, or the name of a virtual shard. digest: `sha256:<hex>` of the bytes for local
    files; what an object store tells without a download (`etag:`, `generation:`, `modified:`) otherwise.
    """

    path: str
    num_rows: int
    num_bytes: int
    digest: str


class ReadResult(NamedTuple):
    """One row that was read: the sample, or why there is none.

    row: index in the shard. sample_id: hex of its bytes when it is not valid UTF-8.
    """

    row: int
    sample_id: str
    sample: Sample | SampleError


@runtime_checkable
class Source(Protocol):
    """One dataset."""

    name: ClassVar[str]
    SCORE: ClassVar[str]
    """Rule of `trials/scores/` that judges answers unless `data.score` names one; samples with choices have theirs."""

    def __init__(self, config: DataConfig) -> None: ...

    def shards(self) -> list[Shard]:
        """All shards of the split in a fixed order, validated: call it once, when planning.

        Raises DataError when the dataset as a whole is unusable. `data.limit` is not applied here.
        """
        ...

    def shard(self, name: str) -> Shard:
        """One shard as it is now, without validating its rows: cheap to ask again for a file that did not change.

        Raises DataError when it cannot be read.
        """
        ...

    def read(self, shard: str, start: int, stop: int) -> Iterator[ReadResult]:
        """Rows `start` to `stop` of a shard, in order: exactly `stop - start` results.

        Raises DataError when the shard itself cannot be read.
        """
        ...

    def read_ids(self, shard: str, start: int, stop: int) -> list[str]:
        """The sample ids that `read` gives for the same rows, without reading images."""
        ...
