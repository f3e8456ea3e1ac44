"""The outcomes of all arms, sample beside sample: checked against the plan, so that pairs are pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64

from rampipe.errors import DataError, IncompleteError
from rampipe.heads.scopes import OVERALL
from rampipe.tables.arms import ArmPlan

CONTROL = "control"

_KEY = ("arm_id", "sample_id")
_OF_SAMPLE = ("sample_id", "domain", "context_key", "control")


@dataclass(frozen=True, slots=True)
class PairedOutcomes:
    """One row per sample, sorted by context and id; one column per arm of the plan, in its order.

    samples: sample_id, domain, context_key, control. present: an outcome is there. correct: 1, 0, or NaN without a
    verdict. score, log_prob: NaN where null.
    """

    samples: pl.DataFrame
    present: Bool[np.ndarray, "sample arm"]
    correct: Float64[np.ndarray, "sample arm"]
    score: Float64[np.ndarray, "sample arm"]
    log_prob: Float64[np.ndarray, "sample arm"]

    def scopes(self) -> Iterator[tuple[str, PairedOutcomes]]:
        """All samples but the control set, then the control set when there is one, then each domain by name."""
        control = self.samples.get_column("control").to_numpy()
        yield OVERALL, self._part(~control)
        if control.any():
            yield CONTROL, self._part(control)
        domain = self.samples.get_column("domain")
        for name in sorted(domain.filter(pl.Series(~control)).unique()):
            yield name, self._part((domain == name).to_numpy() & ~control)

    def _part(self, rows: Bool[np.ndarray, " sample"]) -> PairedOutcomes:
        columns = (self.present, self.correct, self.score, self.log_prob)
        return PairedOutcomes(self.samples.filter(pl.Series(rows)), *(column[rows] for column in columns))


def pair_outcomes(outcomes: pl.LazyFrame, plan: ArmPlan, *, allow_partial: bool) -> PairedOutcomes:
    """Lay the outcomes of all arms side by side.

    Raises DataError for an arm that is not in the plan, two outcomes of one sample in one arm, a sample that differs
    between arms, and a domain with the name of a scope; IncompleteError for an arm without an outcome of some sample,
    unless `allow_partial`, which keeps them missing.
    """
    columns = (*_KEY, *_OF_SAMPLE[1:], "correct", "score", "answer_log_prob")
    rows = outcomes.select(columns).collect()
    _check_rows(rows, plan)
    samples = rows.select(_OF_SAMPLE).unique().sort("context_key", "sample_id")
    _check_samples(samples)
    arm_ids = [arm.arm_id for arm in plan.arms]
    ids = samples.get_column("sample_id").to_list()
    at = (_places(rows.get_column("sample_id"), ids), _places(rows.get_column("arm_id"), arm_ids))
    shape = (len(ids), len(arm_ids))
    present = np.zeros(shape, dtype=np.bool_)
    present[at] = True
    if not allow_partial:
        _check_complete(present, arm_ids, ids)
    values = [_matrix(rows.get_column(name), at, shape) for name in ("correct", "score", "answer_log_prob")]
    return PairedOutcomes(samples, present, *values)


def _check_rows(rows: pl.DataFrame, plan: ArmPlan) -> None:
    known = {arm.arm_id for arm in plan.arms}
    foreign = sorted(set(rows.get_column("arm_id").unique()) - known)
    if foreign:
        raise DataError(
            f"outcomes: {len(foreign)} arms are not in the plan of {plan.run_id}, first {foreign[0]!r}. "
            "They belong to another plan: run ablate again."
        )
    twice = rows.group_by(_KEY).len().filter(pl.col("len") > 1).sort(_KEY)
    if twice.height:
        arm_id, sample_id, count = twice.row(0)
        raise DataError(f"outcomes: sample {sample_id!r} has {count} rows in arm {arm_id!r}, allowed 1. Run verify.")
    for name in ("score", "answer_log_prob"):
        wrong = rows.filter(~pl.col(name).is_finite()).sort(_KEY)
        if wrong.height:
            raise DataError(
                f"outcomes: sample {wrong.item(0, 'sample_id')!r} in arm {wrong.item(0, 'arm_id')!r} has {name} = "
                f"{wrong.item(0, name)}, allowed are finite values and null. Run ablate again."
            )


def _check_samples(samples: pl.DataFrame) -> None:
    differing = samples.group_by("sample_id").len().filter(pl.col("len") > 1).sort("sample_id")
    if differing.height:
        raise DataError(
            f"outcomes: sample {differing.item(0, 'sample_id')!r} differs between arms in domain, context_key or "
            "control: they saw different data. Run ablate again."
        )
    clash = sorted({OVERALL, CONTROL}.intersection(samples.filter(~pl.col("control")).get_column("domain")))
    if clash:
        raise DataError(f"outcomes: domain {clash[0]!r} is the name of a scope. Rename the domain.")


def _check_complete(present: Bool[np.ndarray, "sample arm"], arm_ids: list[str], ids: list[str]) -> None:
    if not ids:
        raise IncompleteError("outcomes: there are none. Run ablate first.")
    lacking = np.flatnonzero(~present.all(axis=0))
    if len(lacking) == 0:
        return
    arm = int(lacking[0])
    absent = np.flatnonzero(~present[:, arm])
    raise IncompleteError(
        f"outcomes: {len(lacking)} of {len(arm_ids)} arms lack samples; {arm_ids[arm]!r} has "
        f"{len(ids) - len(absent)} of {len(ids)}, without {ids[int(absent[0])]!r}. Run ablate again, "
        "which goes on where it stopped, or judge what is there with --allow-partial."
    )


def _places(values: pl.Series, known: list[str]) -> np.ndarray:
    """Index of each value in `known`."""
    index = {name: place for place, name in enumerate(known)}
    return np.array([index[value] for value in values], dtype=np.int64)


def _matrix(values: pl.Series, at: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """NaN where there is no row, and where its value is null."""
    matrix = np.full(shape, np.nan)
    matrix[at] = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return matrix
