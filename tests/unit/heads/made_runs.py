"""Outcomes as a committed run of their own, as the engine leaves them."""

from __future__ import annotations

import polars as pl

from rampipe.tables.arms import ArmPlan, plan_to_json
from rampipe.tables.commit import commit_unit
from rampipe.tables.finish import finish_run
from rampipe.tables.outcomes import ArmOutcome, SampleOutcomes
from rampipe.tables.run import Run, RunSpec, create_run
from rampipe.tables.unit_kind import ABLATION
from rampipe.types import Unit
from tests.unit.heads.planted import PROVENANCE


def written_outcomes(parent: Run, outcomes: pl.DataFrame, plan: ArmPlan, *, folder: str, uncommitted: int = 0) -> Run:
    """Two units below `<parent>/<folder>/`, of which the last `uncommitted` are left open; then it is not finished."""
    results = [_result(part) for part in outcomes.partition_by("sample_id", maintain_order=True)]
    half = len(results) // 2
    units = (Unit(0, "eval.parquet", 0, half), Unit(1, "eval.parquet", half, len(results)))
    inputs = {"arms": {"plan_sha256": plan.sha256}, "answers": outcomes.hash_rows(seed=0).sum()}
    spec = RunSpec("model", "made", inputs, units, (), 0, len(plan.arms))
    run = create_run(parent.storage.child(folder), spec, run_id=spec.fingerprint[:12])
    run.storage.publish("plan.json", plan_to_json(plan))
    for unit in units[: len(units) - uncommitted]:
        rows = results[unit.row_start : unit.row_stop]
        commit_unit(
            run.storage, fingerprint=run.fingerprint, unit=unit, results=rows, failures=(), provenance=PROVENANCE,
            kind=ABLATION,
        )  # fmt: skip
    if not uncommitted:
        finish_run(run)
    return run


def _result(part: pl.DataFrame) -> SampleOutcomes:
    of_sample = part.row(0, named=True)
    arms = part.select(*ArmOutcome.__slots__).to_dicts()
    names = ("sample_id", "domain", "context_key", "control")
    return SampleOutcomes(**{name: of_sample[name] for name in names}, arms=tuple(ArmOutcome(**arm) for arm in arms))
