"""Outcomes as a committed run of their own, as the engine leaves them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import polars as pl

from rampipe.tables.arms import ArmPlan, plan_to_json
from rampipe.tables.commit import commit_unit
from rampipe.tables.finish import finish_run
from rampipe.tables.outcomes import ArmOutcome, SampleOutcomes
from rampipe.tables.rows import SampleFailure
from rampipe.tables.run import Run, RunSpec, create_run
from rampipe.tables.timings import ArmTimings, Repetition, timed_arms, timing_id
from rampipe.tables.unit_kind import ABLATION, TIMINGS
from rampipe.types import Unit
from tests.unit.heads.planted import PROVENANCE


def written_outcomes(parent: Run, outcomes: pl.DataFrame, plan: ArmPlan, *, folder: str, uncommitted: int = 0) -> Run:
    """Two units below `<parent>/<folder>/`, of which the last `uncommitted` are left open; then it is not finished."""
    results = [_result(part) for part in outcomes.partition_by("sample_id", maintain_order=True)]
    half = len(results) // 2
    units = (Unit(0, "eval.parquet", 0, half), Unit(1, "eval.parquet", half, len(results)))
    inputs = {
        "arms": {"plan_sha256": plan.sha256, "ranking_sha256": plan.ranking_sha256},
        "answers": outcomes.hash_rows(seed=0).sum(),
    }
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


def written_timings(
    parent: Run, plan: ArmPlan, *, lengths: Sequence[int], devices: Sequence[str], failed: Collection[str] = (),
    uncommitted: int = 0, prefill_s: float = 1.0, timed_seeds: int = 1,
) -> Run:  # fmt: skip
    """A unit per arm below `<parent>/speed/timings/`; dense takes 2 s for a prefill and 8 s for decoding.

    devices: of the units, in turns. failed: names `<arm_id>@<context_tokens>` that become error rows.
    """
    arms = timed_arms(plan, timed_seeds=timed_seeds)
    units = tuple(Unit(number, arm.arm_id, 0, len(lengths)) for number, arm in enumerate(arms))
    inputs = {"arms": {"plan_sha256": plan.sha256}, "prefill_s": prefill_s}
    spec = RunSpec("model", "speed", inputs, units, (), 0, num_repeats=1)
    run = create_run(parent.storage.child("speed").child("timings"), spec, run_id=spec.fingerprint[:12])
    repetition = Repetition(True, prefill_s, 2.0, 4.0, 8.0, None, None, 250, 1000)
    for unit in units[: len(units) - uncommitted]:
        names = {timing_id(unit.shard, tokens): tokens for tokens in lengths}
        commit_unit(
            run.storage,
            fingerprint=run.fingerprint,
            unit=unit,
            results=[
                ArmTimings(unit.shard, tokens, 32, 250, (repetition,))
                for name, tokens in names.items()
                if name not in failed
            ],
            failures=[
                SampleFailure(name, unit.shard, row, "forward", "out_of_memory", "full")
                for row, name in enumerate(names)
                if name in failed
            ],
            provenance=replace(PROVENANCE, device=devices[unit.unit_id % len(devices)]),
            kind=TIMINGS,
        )
    if not uncommitted:
        finish_run(run)
    return run


def _result(part: pl.DataFrame) -> SampleOutcomes:
    of_sample = part.row(0, named=True)
    arms = part.select(*ArmOutcome.__slots__).to_dicts()
    names = ("sample_id", "domain", "context_key", "control")
    return SampleOutcomes(**{name: of_sample[name] for name in names}, arms=tuple(ArmOutcome(**arm) for arm in arms))
