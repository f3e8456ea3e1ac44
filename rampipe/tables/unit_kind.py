"""The kinds of runs: which tables a unit of each gives, in the order in which they are published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa

from rampipe.tables.outcomes import SampleOutcomes, outcomes_table
from rampipe.tables.rows import SampleResult, head_stats_table, samples_table
from rampipe.tables.timings import ArmTimings, timings_table

Result = TypeVar("Result", SampleResult, SampleOutcomes, ArmTimings)


@dataclass(frozen=True, slots=True)
class UnitKind(Generic[Result]):
    """tables: beside `errors`, in the order in which they are published; the last one's rows are counted.

    shape_of: what all samples of a unit must have in common. sample_key: the columns that name a sample in these
    tables; `errors` has the values joined by `@`.
    """

    schemas: Mapping[str, str]
    tables: Mapping[str, Callable[[Sequence[Result]], pa.Table]]
    shape_of: Callable[[Result], Any]
    sample_key: tuple[str, ...] = ("sample_id",)

    @property
    def counted(self) -> str:
        """The table whose rows are counted: every sample has the same number of them."""
        return tuple(self.tables)[-1]

    def rows_by_sample(self, name: str, table: pa.Table) -> dict[str, int]:
        """How many rows of one of the tables, `errors` included, each sample has."""
        key = ["sample_id"] if name == "errors" else list(self.sample_key)
        counts = table.select(key).group_by(key, use_threads=False).aggregate([([], "count_all")]).to_pylist()
        return {"@".join(str(row[column]) for column in key): row["count_all"] for row in counts}


def _groups(result: SampleResult) -> Any:
    return tuple((query, group.num_heads) for query, group in sorted(result.groups.items()))


CAPTURE: UnitKind[SampleResult] = UnitKind(
    schemas={"errors": "errors.v1", "samples": "samples.v2", "head_stats": "head_stats.v2"},
    tables={"samples": samples_table, "head_stats": head_stats_table},
    shape_of=_groups,
)
ABLATION: UnitKind[SampleOutcomes] = UnitKind(
    schemas={"errors": "errors.v1", "outcomes": "outcomes.v1"},
    tables={"outcomes": outcomes_table},
    shape_of=lambda result: tuple(arm.arm_id for arm in result.arms),
)
TIMINGS: UnitKind[ArmTimings] = UnitKind(
    schemas={"errors": "errors.v1", "timings": "timings.v1"},
    tables={"timings": timings_table},
    shape_of=lambda result: len(result.repetitions),
    sample_key=("arm_id", "context_tokens"),
)


EARLIER: Mapping[str, tuple[str, ...]] = {"head_stats.v2": ("head_stats.v1",), "samples.v2": ("samples.v1",)}
"""Versions that lack columns of a later one and are the same otherwise: runs that have them are read as they are."""


def reads(schemas: Mapping[str, str], kind: UnitKind[Any]) -> bool:
    """Whether tables of these schemas are read as a run of this kind: its own, or earlier ones."""
    return {*schemas} == {*kind.schemas} and all(
        schemas[name] in (current, *EARLIER.get(current, ())) for name, current in kind.schemas.items()
    )


def kind_of(*, num_arms: int | None, num_repeats: int | None) -> UnitKind[Any]:
    """By what only runs of that kind have."""
    if num_repeats is not None:
        return TIMINGS
    return CAPTURE if num_arms is None else ABLATION
