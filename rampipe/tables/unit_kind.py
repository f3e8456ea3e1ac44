"""The kinds of runs: which tables a unit of each gives, in the order in which they are published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa

from rampipe.tables.outcomes import SampleOutcomes, outcomes_table
from rampipe.tables.rows import SampleResult, head_stats_table, samples_table

Result = TypeVar("Result", SampleResult, SampleOutcomes)


@dataclass(frozen=True, slots=True)
class UnitKind(Generic[Result]):
    """tables: beside `errors`, in the order in which they are published; the last one's rows are counted.

    shape_of: what all samples of a unit must have in common.
    """

    schemas: Mapping[str, str]
    tables: Mapping[str, Callable[[Sequence[Result]], pa.Table]]
    shape_of: Callable[[Result], Any]


def _groups(result: SampleResult) -> Any:
    return tuple((query, group.num_heads) for query, group in sorted(result.groups.items()))


CAPTURE: UnitKind[SampleResult] = UnitKind(
    schemas={"errors": "errors.v1", "samples": "samples.v1", "head_stats": "head_stats.v1"},
    tables={"samples": samples_table, "head_stats": head_stats_table},
    shape_of=_groups,
)
ABLATION: UnitKind[SampleOutcomes] = UnitKind(
    schemas={"errors": "errors.v1", "outcomes": "outcomes.v1"},
    tables={"outcomes": outcomes_table},
    shape_of=lambda result: tuple(arm.arm_id for arm in result.arms),
)
