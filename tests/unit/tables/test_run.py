from __future__ import annotations

import json
from pathlib import Path

import pytest

from rampipe.errors import ConfigError, IncompleteError, StorageError
from rampipe.tables.balance import balance
from rampipe.tables.fingerprint import fingerprint
from rampipe.tables.finish import finish_run, read_success
from rampipe.tables.record import CommitRecord
from rampipe.tables.run import create_run, open_run_dir
from tests.unit.tables.synthetic import capture, commit, spec


def test_a_run_is_what_it_was_made_with(tmp_path: Path) -> None:
    made = spec()
    run = create_run(str(tmp_path), made)
    assert run.run_id == f"org-tiny-vl-synthetic-{made.fingerprint[:12]}"
    again = open_run_dir(str(tmp_path / run.run_id))
    assert (again.units, again.queries, again.num_heads) == (made.units, made.queries, made.num_heads)
    assert again.inputs == made.all_inputs
    assert again.num_samples == 12
    assert {"python", "numpy", "pyarrow"} <= {*again.versions}


def test_a_resume_writes_nothing_new(tmp_path: Path) -> None:
    first = create_run(str(tmp_path), spec())
    before = first.storage.read("run.json")
    again = create_run(str(tmp_path), spec())
    assert (again.run_id, again.created) == (first.run_id, first.created)
    assert first.storage.read("run.json") == before


def test_other_inputs_are_another_run(tmp_path: Path) -> None:
    inputs = {"model": {"dtype": "bfloat16"}}
    fingerprints = {
        spec().fingerprint,
        spec(inputs=inputs).fingerprint,
        spec(unit_samples=6).fingerprint,
    }
    assert len(fingerprints) == 3
    assert create_run(str(tmp_path), spec()).run_id != create_run(str(tmp_path), spec(inputs=inputs)).run_id


def test_a_resume_with_other_settings_is_refused_and_names_them(tmp_path: Path) -> None:
    create_run(str(tmp_path), spec(), run_id="mine")
    other = spec(inputs={"model": {"dtype": "bfloat16", "weights": "0" * 64}, "data": {"etag": "two"}})
    with pytest.raises(ConfigError) as caught:
        create_run(str(tmp_path), other, run_id="mine")
    message = str(caught.value)
    assert "model.dtype: run has 'float32', now 'bfloat16'" in message
    assert "data.etag: run has 'one', now 'two'" in message
    assert "weights" not in message
    assert create_run(str(tmp_path), spec(), run_id="mine").run_id == "mine"


@pytest.mark.parametrize("run_id", ["../up", "A", "a/b", ""])
def test_a_run_id_is_a_name(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ConfigError, match="run id"):
        create_run(str(tmp_path / "out"), spec(), run_id=run_id)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no run\.json"):
        open_run_dir(str(tmp_path))


def test_an_edited_run_json_is_found(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec())
    edited = run.storage.read("run.json").replace(b"float32", b"float16")
    run.storage.replace("run.json", edited)
    with pytest.raises(StorageError, match="damaged or edited"):
        open_run_dir(run.storage)


def test_a_plan_of_another_run_is_found(tmp_path: Path) -> None:
    run, other = create_run(str(tmp_path), spec()), create_run(str(tmp_path), spec(unit_samples=6))
    run.storage.replace("plan.parquet", other.storage.read("plan.parquet"))
    with pytest.raises(StorageError, match="is the plan of fingerprint"):
        open_run_dir(run.storage)


def test_an_unfinished_run_is_refused_with_the_numbers(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec())
    for unit in run.units[:2]:
        commit(run, unit)
    with pytest.raises(
        IncompleteError, match=r"2 of 3 units, 7 ok \+ 1 errors of 12 samples, 84 rows.*not committed: 2"
    ):
        finish_run(run)
    assert read_success(run.storage) is None
    account = balance(run)
    assert (account.num_committed, account.num_units, account.complete) == (2, 3, False)
    assert account.error_frac == 1 / 8


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"num_ok": 5}, "planned 4 = 5 ok"),
        ({"num_rows": 35}, "35 rows = 3 ok × 2 query groups × 6 heads"),
        ({"fingerprint": "f" * 64}, "fingerprint ffffffffffff"),
    ],
)
def test_records_that_do_not_add_up_are_refused(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    run = create_run(str(tmp_path), spec())
    for unit in run.units:
        commit(run, unit)
    assert balance(run).complete
    path = "_commits/unit-000000.json"
    raw = {**json.loads(run.storage.read(path)), **change}
    run.storage.replace(path, CommitRecord.from_json(json.dumps(raw).encode(), source=path).to_json())
    with pytest.raises(IncompleteError, match=problem):
        finish_run(run)


def test_a_committed_unit_that_is_not_planned_is_refused(tmp_path: Path) -> None:
    run, finer = create_run(str(tmp_path), spec(unit_samples=6)), spec(unit_samples=4)
    for unit in finer.units:
        commit(run, unit)
    with pytest.raises(IncompleteError, match="1 committed units are not in the plan: 2"):
        finish_run(run)


def test_success_identifies_content_not_history(tmp_path: Path) -> None:
    first = capture(str(tmp_path / "a"))
    second = capture(str(tmp_path / "b"), order=[2, 0, 1, 1])
    one, two = read_success(first.storage), read_success(second.storage)
    assert one is not None
    assert one == two
    assert finish_run(first) == one
    assert (one.num_ok, one.num_errors, one.num_rows) == (10, 2, 120)


def test_an_edited_success_is_found(tmp_path: Path) -> None:
    run = capture(str(tmp_path))
    run.storage.replace("_SUCCESS.json", run.storage.read("_SUCCESS.json").replace(b"unit-000001", b"unit-000009"))
    with pytest.raises(StorageError, match="damaged or edited"):
        read_success(run.storage)


def test_a_run_of_another_schema_version_is_refused_by_name(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec())
    content = json.loads(run.storage.read("run.json"))
    content["inputs"]["run"]["schemas"]["head_stats"] = "head_stats.v9"
    content["fingerprint"] = fingerprint(content["inputs"])
    content["versions"]["rampipe"] = "9.9"
    run.storage.replace("run.json", json.dumps(content).encode())
    with pytest.raises(StorageError, match=r"by rampipe 9\.9 with tables \['head_stats\.v9'\]; this version reads"):
        open_run_dir(run.storage)
