"""The chain from later stages back to the capture: whole, it is silent; each broken link is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rampipe.tables.chain import ranking_sha256
from rampipe.tables.derived import publish_stage
from rampipe.tables.finish import finish_run, read_success
from rampipe.tables.run import Run, RunSpec, create_run
from rampipe.tables.schema import load_schema
from rampipe.tables.verify import verify
from tests.unit.tables.synthetic import capture, commit, spec


def arms_spec(run: Run, *, ranking: str | None = None, model: str = "float32") -> RunSpec:
    """A run of answers with heads of a ranking; what it measured does not matter to the chain."""
    inputs = {**run.inputs, "model": {"dtype": model, "weights": "0" * 64}}
    arms = {"plan_sha256": "1" * 64, "ranking_sha256": ranking or ranking_sha256(run)}
    return spec(inputs={**inputs, "arms": arms})


def judged(run: Run, made: RunSpec) -> Run:
    answers = create_run(run.storage.child("ablation"), made, run_id=made.fingerprint[:12])
    for unit in answers.units:
        commit(answers, unit)
    finish_run(answers)
    publish_ablation(run, answers)
    return answers


def publish_ablation(run: Run, answers: Run, *, rows: str | None = None) -> None:
    success = read_success(answers.storage)
    assert success is not None
    accuracy = load_schema("accuracy.v1").arrow_schema.empty_table()
    made_from = {"outcomes": answers.run_id, "commits_sha256": rows or success.commits_sha256}
    publish_stage(run.storage, "ablation", {"accuracy": accuracy}, made_from)


def publish_ranking(run: Run, rows: str | None = None) -> None:
    success = read_success(run.storage)
    assert success is not None
    ranking = load_schema("ranking.v1").arrow_schema.empty_table()
    publish_stage(run.storage, "ranking", {"ranking": ranking}, {"commits_sha256": rows or success.commits_sha256})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A capture with a ranking."""
    made = capture(str(tmp_path))
    publish_ranking(made)
    return made


def only_problem(run: Run) -> str:
    (problem,) = verify(run.storage).problems
    return problem


def test_a_whole_chain_is_silent(run: Run) -> None:
    judged(run, arms_spec(run))
    assert verify(run.storage).problems == ()


def test_a_table_that_was_changed_is_named(run: Run) -> None:
    path = "ranking/ranking.parquet"
    run.storage.replace(path, run.storage.read(path) + b" ")
    assert f"{path}: has changed since it was written" in only_problem(run)
    run.storage.delete(path)
    assert f"{path}: is missing" in only_problem(run)


def test_a_ranking_of_other_rows_is_named(run: Run) -> None:
    publish_ranking(run, rows="f" * 64)
    assert "was made from rows ffffffffffff, the capture has" in only_problem(run)


def test_a_record_that_was_edited_is_named(run: Run) -> None:
    path = "ranking/_SUCCESS.json"
    content = json.loads(run.storage.read(path))
    content["made_from"]["note"] = "trust me"
    run.storage.replace(path, json.dumps(content).encode())
    assert "edited: what it was made from does not give its hash" in only_problem(run)
    run.storage.replace(path, b"{}")
    assert f"{path}: damaged" in only_problem(run)


def test_answers_of_heads_of_another_ranking_or_model_are_named(run: Run) -> None:
    judged(run, arms_spec(run, ranking="e" * 64))
    assert "its heads are of ranking eeeeeeeeeeee, the current one is" in only_problem(run)
    judged(run, arms_spec(run, model="bfloat16"))
    assert "is of another model than the capture" in only_problem(run)


def test_judged_rows_that_are_not_the_answers_are_named(run: Run) -> None:
    answers = judged(run, arms_spec(run))
    publish_ablation(run, answers, rows="d" * 64)
    assert "judged were dddddddddddd" in only_problem(run)


def test_damage_in_the_answers_is_found_from_the_capture(run: Run) -> None:
    answers = judged(run, arms_spec(run))
    path = "samples/unit-000001.parquet"
    answers.storage.replace(path, answers.storage.read(path)[:-9])
    assert path in only_problem(run)
    answers.storage.delete("run.json")
    assert "no run.json" in only_problem(run)


def test_a_run_that_nobody_judged_is_not_part_of_the_chain(run: Run) -> None:
    create_run(run.storage.child("ablation"), replace(arms_spec(run), dataset_slug="left over"), run_id="left-over")
    assert verify(run.storage).problems == ()
