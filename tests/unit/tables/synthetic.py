"""A small run without a model: every value follows from the sample's name, so any attempt gives the same rows.

`python -m tests.unit.tables.synthetic OUT [--die-at FAILPOINT]` captures it and dies in the second unit.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from rampipe.tables.commit import CommitRecord, Provenance, commit_unit
from rampipe.tables.finish import finish_run
from rampipe.tables.rows import GroupStatistics, SampleFailure, SampleResult
from rampipe.tables.run import Run, RunSpec, create_run
from rampipe.types import REGIONS, Unit

NUM_LAYERS, NUM_HEADS, NUM_SAMPLES = 2, 3, 12
FAILED_ROWS = (1, 10)
PROVENANCE = Provenance(attempt=1, node="here", device="cpu", versions={"torch": "none"}, seconds=0.5)


def statistics(
    name: str, *, has_evidence: bool = True, calibrated: bool = True, has_learned_sink: bool = False
) -> GroupStatistics:
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    mass = draw.dirichlet(np.ones(len(REGIONS)), size=(NUM_LAYERS, NUM_HEADS)).astype(np.float32)
    values = draw.random((4, NUM_LAYERS, NUM_HEADS), dtype=np.float32)
    return GroupStatistics(
        layers=np.array([0, 3], dtype=np.int16),
        mass=mass,
        peak_evidence=values[0],
        hit=values[1],
        entropy_nats=values[2],
        mass_evidence_null=values[3] if calibrated else None,
        has_evidence=has_evidence,
        has_learned_sink=has_learned_sink,
    )


def result(row: int, *, salt: str = "") -> SampleResult:
    """`salt` stands for another attempt whose floats differ in the last bits."""
    sample_id, has_evidence = f"../läufe/{row}", row % 3 != 0
    return SampleResult(
        sample_id=sample_id,
        domain="receipts" if row % 2 else "symbols",
        context_key=f"{row // 2:016x}",
        num_tokens=100 + row,
        region_counts={"evidence": 5 if has_evidence else 0, "question": 9},
        groups={
            "last": statistics(f"{sample_id} last {salt}", has_evidence=has_evidence, calibrated=False),
            "question": statistics(f"{sample_id} question {salt}", has_evidence=has_evidence),
        },
        prediction=None if row % 4 == 0 else "42",
        correct=None if row % 4 == 0 else row % 4 == 1,
        flags=() if has_evidence else ("no_evidence",),
    )


def failure(row: int) -> SampleFailure:
    return SampleFailure(f"../läufe/{row}", "part.parquet", row, "decode", "image_corrupt", "broken " * 100)


def spec(*, unit_samples: int = 4, inputs: dict[str, object] | None = None) -> RunSpec:
    starts = range(0, NUM_SAMPLES, unit_samples)
    units = tuple(
        Unit(index, "part.parquet", start, min(start + unit_samples, NUM_SAMPLES)) for index, start in enumerate(starts)
    )
    return RunSpec(
        model_slug="Org/Tiny-VL",
        dataset_slug="synthetic",
        inputs=inputs or {"model": {"dtype": "float32", "weights": "0" * 64}, "data": {"etag": "one"}},
        units=units,
        queries=("question", "last"),
        num_heads=NUM_LAYERS * NUM_HEADS,
    )


def commit(run: Run, unit: Unit, *, failed: Sequence[int] = FAILED_ROWS, salt: str = "") -> CommitRecord:
    rows = range(unit.row_start, unit.row_stop)
    return commit_unit(
        run.storage,
        fingerprint=run.fingerprint,
        unit=unit,
        results=[result(row, salt=salt) for row in rows if row not in failed],
        failures=[failure(row) for row in rows if row in failed],
        provenance=PROVENANCE,
    )


def capture(out: str, made: RunSpec | None = None, *, order: Iterable[int] | None = None) -> Run:
    """A whole finished run; `order`: units to commit, in that order, again and again if they are named twice."""
    run = create_run(out, made or spec())
    for unit_id in order if order is not None else range(len(run.units)):
        commit(run, run.units[unit_id])
    finish_run(run)
    return run


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--die-at", default="")
    arguments = parser.parse_args(argv)
    run = create_run(arguments.out, spec())
    commit(run, run.units[0])
    os.environ["RAMPIPE_FAILPOINT"] = arguments.die_at
    capture(arguments.out)


if __name__ == "__main__":
    main(sys.argv[1:])
