from __future__ import annotations

import os
from pathlib import Path

import datasets
import polars as pl
import pytest

from rampipe import open_run
from rampipe.errors import StorageError
from rampipe.tables.derived import publish_stage
from rampipe.tables.run import Run, create_run
from rampipe.tables.schema import latest_schema, load_schema
from tests.unit.tables.synthetic import capture, commit, spec


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return capture(str(tmp_path_factory.mktemp("run")))


def test_the_frames_are_the_committed_rows(run: Run) -> None:
    opened = open_run(run.storage.uri)
    assert opened.head_stats.collect().shape == (120, 20)
    assert opened.samples.collect().height == 10
    assert opened.errors.collect()["row"].to_list() == [1, 10]
    assert opened.plan.collect().rows() == [(index, "part.parquet", 4 * index, 4 * index + 4) for index in range(3)]
    assert opened.balance.complete
    by_head = opened.head_stats.group_by("query", "layer", "head").len().collect()
    assert by_head["len"].unique().to_list() == [10]


@pytest.mark.fault("B12")
def test_null_stays_null_and_is_not_averaged(run: Run) -> None:
    rows = open_run(run.storage.uri).head_stats.collect()
    without = pl.Series(["../läufe/0", "../läufe/3", "../läufe/6", "../läufe/9"])
    flagged = rows.filter(pl.col("sample_id").is_in(without.implode()))
    assert flagged["mass_evidence"].null_count() == flagged.height == 4 * 12
    measured = rows.filter(~pl.col("sample_id").is_in(without.implode()))
    assert measured["mass_evidence"].null_count() == 0
    assert rows["mass_evidence"].mean() == pytest.approx(measured["mass_evidence"].mean())
    assert rows["mass_evidence"].mean() != pytest.approx(rows["mass_evidence"].fill_null(0).mean())
    assert rows["mass_learned_sink"].null_count() == rows.height
    assert rows.filter(query="last")["mass_evidence_null"].null_count() == rows.height // 2


def test_only_committed_units_are_read_and_a_plain_glob_agrees(tmp_path: Path, run: Run) -> None:
    half = create_run(str(tmp_path), spec())
    commit(half, half.units[1])
    half.storage.publish("head_stats/unit-000000.parquet", run.storage.read("head_stats/unit-000000.parquet"))
    opened = open_run(half.storage.uri)
    assert opened.samples.collect().height == 4
    assert opened.head_stats.collect().height == 48
    assert (opened.balance.num_committed, opened.balance.complete) == (1, False)
    assert pl.scan_parquet(f"{run.storage.uri}/head_stats/*.parquet").collect().height == 120


def test_a_run_without_a_commit_has_empty_frames(tmp_path: Path) -> None:
    opened = open_run(create_run(str(tmp_path), spec()).storage.uri)
    for name in ("head_stats", "samples", "errors"):
        frame = getattr(opened, name).collect()
        assert frame.height == 0
        assert frame.columns == latest_schema(name).arrow_schema.names


def test_a_file_of_another_size_is_named(tmp_path: Path) -> None:
    run = capture(str(tmp_path))
    os.truncate(Path(run.storage.uri) / "samples/unit-000001.parquet", 0)
    with pytest.raises(StorageError, match=r"samples/unit-000001\.parquet: has 0 bytes"):
        open_run(run.storage.uri)
    run.storage.delete("samples/unit-000001.parquet")
    with pytest.raises(StorageError, match=r"samples/unit-000001\.parquet: is missing"):
        open_run(run.storage.uri)


def test_later_stages_are_read_once_they_exist(tmp_path: Path) -> None:
    run = capture(str(tmp_path))
    with pytest.raises(StorageError, match="run `python -m jobs"):
        _ = open_run(run.storage.uri).ranking
    ranking = load_schema("ranking.v1").arrow_schema.empty_table()
    publish_stage(run.storage, "ranking", {"ranking": ranking}, {"made": "from"})
    opened = open_run(run.storage.uri)
    assert opened.ranking.collect().columns == ranking.column_names
    with pytest.raises(StorageError, match=r"no table 'stability'.*has \['ranking'\]"):
        opened.stage("ranking", "stability")


@pytest.mark.parametrize(("name", "num_rows"), [("head_stats", 120), ("samples", 10), ("errors", 2)])
def test_a_run_is_a_hugging_face_dataset(run: Run, tmp_path: Path, name: str, num_rows: int) -> None:
    rows = datasets.load_dataset(run.storage.uri, name, split="train", cache_dir=str(tmp_path))
    assert rows.num_rows == num_rows
    assert rows.column_names == latest_schema(name).arrow_schema.names
    if name == "head_stats":
        assert rows.data.column("mass_evidence").null_count == 48


def test_a_ranking_becomes_a_configuration_of_the_dataset(tmp_path: Path) -> None:
    run = capture(str(tmp_path / "out"))
    assert datasets.get_dataset_config_names(run.storage.uri) == ["head_stats", "samples", "errors"]
    ranking = load_schema("ranking.v1").arrow_schema.empty_table()
    publish_stage(run.storage, "ranking", {"ranking": ranking}, {"made": "from"})
    assert datasets.get_dataset_config_names(run.storage.uri) == ["head_stats", "samples", "errors", "ranking"]
    card = run.storage.read("README.md").decode()
    assert "10 samples measured, 2 failed" in card
    assert run.fingerprint in card
