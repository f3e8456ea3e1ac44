from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rampipe.errors import IncompleteError
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.balance import balance
from rampipe.tables.commit import commit_unit
from rampipe.tables.finish import finish_run
from rampipe.tables.read import open_run
from rampipe.tables.repair import repair
from rampipe.tables.run import Run, create_run, open_run_dir
from rampipe.tables.timings import timed_arms, timings_table
from rampipe.tables.unit_kind import ABLATION, CAPTURE, TIMINGS
from rampipe.tables.verify import check_unit, verify
from tests.unit.tables.made_timings import ARMS, LENGTHS, NUM_REPEATS, commit_timings, timed, timings_spec
from tests.unit.tables.synthetic import PROVENANCE, spec


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(str(tmp_path), timings_spec())


def finished(run: Run) -> Run:
    commit_timings(run, run.units[0])
    commit_timings(run, run.units[1], failed=(1,))
    finish_run(run)
    return run


def test_a_row_is_a_repetition() -> None:
    rows = timings_table([timed("a", 64), timed("a", 32)]).to_pylist()
    assert [(row["context_tokens"], row["repeat"]) for row in rows] == [(n, r) for n in (64, 32) for r in range(3)]
    assert rows[1] == {
        "arm_id": "a", "context_tokens": 64, "repeat": 1, "dense_first": False, "prefill_s": 2.0,
        "dense_prefill_s": 2.0, "num_new_tokens": 4, "decode_s": 0.5, "dense_decode_s": 1.0, "peak_bytes": None,
        "dense_peak_bytes": 1000, "cache_bytes": 250, "dense_cache_bytes": 1000, "predicted_cache_bytes": 250,
    }  # fmt: skip


def test_a_run_of_timings_balances_with_its_error_rows(run: Run) -> None:
    account = balance(finished(run))
    assert account.complete
    assert (account.num_samples, account.num_ok, account.num_errors, account.num_rows) == (4, 3, 1, 3 * NUM_REPEATS)
    assert verify(run.storage).problems == ()
    assert repair(run.storage).moved == ()
    opened = open_run(run.storage.uri)
    assert opened.run.kind is TIMINGS
    assert opened.timings.collect().height == 9
    assert opened.errors.collect().get_column("sample_id").to_list() == [f"{ARMS[1]}@{LENGTHS[1]}"]


def test_a_unit_that_lacks_a_length_or_a_repetition_is_refused(run: Run) -> None:
    short = [timed(ARMS[0], 128), timed(ARMS[0], 64, num_repeats=2)]
    for results, message in ((short[:1], "planned 2 samples, got 1"), (short, "samples differ")):
        with pytest.raises(IncompleteError, match=message):
            commit_unit(
                run.storage,
                fingerprint=run.fingerprint,
                unit=run.units[0],
                kind=TIMINGS,
                results=results,
                failures=[],
                provenance=PROVENANCE,
            )


def test_rows_of_another_number_than_planned_are_found(run: Run, tmp_path: Path) -> None:
    record = commit_timings(run, run.units[0])
    assert check_unit(run, run.units[0], record)[0] == []
    problems, _ = check_unit(replace(run, num_repeats=NUM_REPEATS + 1), run.units[0], record)
    assert problems == ["unit-000000: a sample does not have 4 repetitions rows"]
    assert "6 rows = 2 ok × 4 repetitions" in " ".join(balance(replace(run, num_repeats=4)).problems)


def test_damage_is_found_and_repair_redoes_that_unit_only(run: Run) -> None:
    storage, path = finished(run).storage, "timings/unit-000000.parquet"
    other = storage.read("_commits/unit-000001.json")
    storage.replace(path, storage.read(path)[:-9])
    assert verify(storage).damaged_units == (0,)
    assert repair(storage).units == (0,)
    commit_timings(run, run.units[0])
    finish_run(run)
    assert verify(storage).problems == ()
    assert storage.read("_commits/unit-000001.json") == other


def test_the_first_timings_stay(run: Run) -> None:
    """Whoever comes second has other seconds, and adopts the first ones even when these were not committed yet."""
    commit_timings(run, run.units[0])
    before = {path: run.storage.read(path) for path in run.storage.list("timings")}
    run.storage.delete("_commits/unit-000000.json")
    commit_timings(run, run.units[0], seconds=9.0)
    assert {path: run.storage.read(path) for path in before} == before
    run.storage.delete("_commits/unit-000000.json")
    for path in before:
        run.storage.delete(path)
    commit_timings(run, run.units[0], seconds=9.0)
    assert {path: run.storage.read(path) for path in before} != before


def test_kinds_are_told_apart_by_what_only_they_have(run: Run, tmp_path: Path) -> None:
    assert open_run_dir(run.storage).num_repeats == NUM_REPEATS
    assert create_run(str(tmp_path), spec()).kind is CAPTURE
    assert create_run(str(tmp_path), replace(spec(), num_arms=2)).kind is ABLATION


def test_older_kinds_keep_their_inputs() -> None:
    """Finished captures and ablations must open and resume: nothing new may enter their fingerprints."""
    capture = spec()
    added = {key for key in timings_spec().all_inputs["run"] if key.startswith("num_")}
    assert added - {*capture.all_inputs["run"]} == {"num_repeats"}
    ablation = replace(capture, queries=(), num_heads=0, num_arms=3)
    assert {*ablation.all_inputs["run"]} - {*capture.all_inputs["run"]} == {"num_arms"}
    assert timings_spec().fingerprint != replace(timings_spec(), num_repeats=4).fingerprint


def arm(arm_id: str, *, seed: int | None = None, strategy: str = "top") -> Arm:
    return Arm(arm_id, strategy, "keep", "hybrid", "all", "query_head", "overall", 0.1, seed, None, 0, 0.0, None, ())


def test_the_base_and_later_draws_are_not_timed() -> None:
    arms = (arm("base", strategy="base"), arm("top"), arm("r0", seed=0), arm("r1", seed=1))
    plan = ArmPlan("run", "ram", "0" * 64, 4, None, {}, arms)
    assert [item.arm_id for item in timed_arms(plan, timed_seeds=1)] == ["top", "r0"]
    assert [item.arm_id for item in timed_arms(plan, timed_seeds=0)] == ["top"]
    assert [item.arm_id for item in timed_arms(plan, timed_seeds=2)] == ["top", "r0", "r1"]
