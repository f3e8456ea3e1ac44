"""Whole runs: planted heads come first, and neither order, cutting nor repetition changes a byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from rampipe.config import RankConfig
from rampipe.errors import ConfigError, IncompleteError, StorageError
from rampipe.heads.rank import Ranking, current_ranking, rank_run
from rampipe.tables.read import open_run
from rampipe.tables.run import Run
from rampipe.types import HeadId
from tests.unit.heads.planted import RunShape, Study, planted_masses, shuffled_heads, write_run

PLANTED = {HeadId(1, 2): 0.3, HeadId(3, 4): 0.2}
CONFIG = RankConfig(bootstrap_samples=100)
TABLES = ("ranking", "concentration", "stability", "overlap")
STUDY = Study(planted_masses(40, PLANTED), domains=("docs", "films"), per_context=2)


def table_bytes(run: Run) -> dict[str, bytes]:
    return {name: run.storage.read(f"ranking/{name}.parquet") for name in TABLES}


def rows_of(ranking: Ranking) -> dict[str, list[dict[str, object]]]:
    return {name: getattr(ranking, name).to_dicts() for name in TABLES}


def test_planted_heads_are_first_in_every_scope(tmp_path: Path) -> None:
    ranking = rank_run(write_run(tmp_path, STUDY).storage.uri, CONFIG)
    assert ranking.core_heads() == ranking.core_heads("docs") == ranking.core_heads("films") == list(PLANTED)
    first = ranking.ranking.filter(pl.col("rank") == 1)
    assert set(first["scope"]) == {"overall", "docs", "films"}
    assert set(first["selection_probability"]) == {1.0}
    assert (first["low"] > 0.2).all()  # ten times the noise of the other heads
    half = ranking.concentration.filter(pl.col("scope") == "overall").row(0, named=True)
    assert (half["num_samples"], half["num_clusters"], half["num_heads"], half["num_core"]) == (40, 20, 40, 2)


def test_shuffled_evidence_does_not_rank_the_planted_heads(tmp_path: Path) -> None:
    """Twin: the same numbers without a meaning. A chance leader is neither certain nor stable."""
    shuffled = replace(STUDY, evidence=shuffled_heads(STUDY.evidence))
    ranking = rank_run(write_run(tmp_path, shuffled).storage.uri, CONFIG)
    overall = ranking.ranking.filter(pl.col("scope") == "overall")
    planted = overall.filter((pl.col("layer") == 1) & (pl.col("head") == 2)).row(0, named=True)
    assert planted["selection_probability"] < 0.5
    assert overall["selection_probability"].max() < 0.95  # pyright: ignore[reportOperatorIssue]
    assert not set(PLANTED) <= set(ranking.core_heads())


def test_ranking_is_a_partition_of_the_positive_mass(tmp_path: Path) -> None:
    ranking = rank_run(write_run(tmp_path, STUDY).storage.uri, CONFIG).ranking
    for _, scope in ranking.group_by("scope"):
        assert scope["rank"].to_list() == list(range(1, 41))
        assert scope["mean"].is_sorted(descending=True)
        assert scope["share_of_positive_mass"].sum() == pytest.approx(1.0)
        assert scope["cumulative_share"].is_sorted()
        assert scope["cumulative_share"][-1] == pytest.approx(1.0)
        assert (scope["low"] <= scope["mean"]).all()
        assert (scope["mean"] <= scope["high"]).all()


def test_contextual_heads(tmp_path: Path) -> None:
    elsewhere = np.zeros_like(STUDY.evidence)
    elsewhere[:, 0, 1] = 0.8
    elsewhere[:, 1, 2] = 0.6  # a CoRe head stays one
    study = replace(STUDY, evidence=np.minimum(STUDY.evidence, 0.15), elsewhere=elsewhere)
    ranking = rank_run(write_run(tmp_path, study).storage.uri, CONFIG).ranking
    overall = ranking.filter(pl.col("scope") == "overall")
    named = {(row["layer"], row["head"]): row["class"] for row in overall.iter_rows(named=True)}
    assert named[(0, 1)] == "contextual"
    assert named[(1, 2)] == "core"
    assert sorted(named.values()) == sorted(["core"] * 2 + ["contextual"] + ["other"] * 37)


def test_order_of_units_does_not_change_a_byte(tmp_path: Path) -> None:
    straight = write_run(tmp_path / "a", STUDY)
    reverse = write_run(tmp_path / "b", STUDY, RunShape(unit_order=-1))
    rank_run(straight.storage.uri, CONFIG)
    rank_run(reverse.storage.uri, CONFIG)
    assert table_bytes(straight) == table_bytes(reverse)


def test_cutting_into_units_does_not_change_a_number(tmp_path: Path) -> None:
    """Runs cut differently have different ids, which the overlap table names; all numbers are the same."""
    found = [
        rows_of(rank_run(write_run(tmp_path, STUDY, RunShape(unit_samples=size)).storage.uri, CONFIG))
        for size in (7, 40)
    ]
    for rows in (row for tables in found for row in tables["overlap"]):
        assert rows.pop("run_a") == rows.pop("run_b")
    assert found[0] == found[1]
    other = rank_run(write_run(tmp_path, replace(STUDY, per_context=1)).storage.uri, CONFIG)
    assert rows_of(other)["ranking"] != found[0]["ranking"]  # twin: the comparison can fail


def test_current_ranking_is_not_made_again(tmp_path: Path) -> None:
    run = write_run(tmp_path, STUDY)
    first = rank_run(run.storage.uri, CONFIG)
    before = (tmp_path / run.run_id / "ranking" / "ranking.parquet").stat().st_mtime_ns
    again = rank_run(run.storage.uri, CONFIG.model_copy(update={"allow_partial": True}))
    assert (tmp_path / run.run_id / "ranking" / "ranking.parquet").stat().st_mtime_ns == before
    assert rows_of(first) == rows_of(again)
    assert first.accuracy.equals(again.accuracy)
    rank_run(run.storage.uri, CONFIG.model_copy(update={"k_frac": 0.1}))
    assert (tmp_path / run.run_id / "ranking" / "ranking.parquet").stat().st_mtime_ns != before


def test_looking_for_a_ranking_writes_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path, STUDY)
    assert current_ranking(run.storage.uri, CONFIG) is None
    assert run.storage.list("ranking") == []
    made = rank_run(run.storage.uri, CONFIG)
    found = current_ranking(run.storage.uri, CONFIG)
    assert found is not None
    assert rows_of(found) == rows_of(made)
    other = CONFIG.model_copy(update={"seed": 1})  # twin: one that was made with other settings is not it
    assert current_ranking(run.storage.uri, other) is None


def test_unfinished_run_is_refused_unless_told(tmp_path: Path) -> None:
    run = write_run(tmp_path, STUDY, RunShape(uncommitted=frozenset({1})))
    with pytest.raises(IncompleteError, match=r"4 of 5 units, 32 ok \+ 0 errors of 40 samples.*--allow-partial"):
        rank_run(run.storage.uri, CONFIG)
    assert run.storage.list("ranking") == []
    ranking = rank_run(run.storage.uri, CONFIG.model_copy(update={"allow_partial": True}))
    assert ranking.partial is not None
    assert (ranking.partial["num_committed"], ranking.partial["num_ok"]) == (4, 32)
    assert ranking.concentration["num_samples"][0] == 32
    assert b'"num_committed": 4' in run.storage.read("ranking/_SUCCESS.json")


def test_failed_samples_are_neither_zero_nor_missing(tmp_path: Path) -> None:
    ranking = rank_run(write_run(tmp_path, STUDY, RunShape(failed=frozenset({3, 4}))).storage.uri, CONFIG)
    assert (ranking.num_errors, ranking.partial) == (2, None)
    assert ranking.concentration["num_samples"][0] == 38


def test_changed_bytes_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, STUDY)
    path = tmp_path / run.run_id / "head_stats" / "unit-000002.parquet"
    chunks = pq.read_metadata(path).row_group(0).to_dict()["columns"]
    (ranked,) = (chunk for chunk in chunks if chunk["path_in_schema"] == "mass_evidence")
    data = bytearray(path.read_bytes())
    data[ranked["data_page_offset"] + ranked["total_compressed_size"] // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match=r"unit-000002\.parquet: not an intact Parquet file .*rampipe repair"):
        rank_run(run.storage.uri, CONFIG)


def test_changed_bytes_of_samples_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, STUDY)
    path = tmp_path / run.run_id / "samples" / "unit-000002.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match=r"unit-000002\.parquet: its bytes have changed"):
        rank_run(run.storage.uri, CONFIG)


def test_two_runs_are_compared(tmp_path: Path) -> None:
    first = write_run(tmp_path, STUDY)
    moved = planted_masses(40, {HeadId(1, 2): 0.3, HeadId(4, 7): 0.2}, seed=9)
    second = write_run(tmp_path, replace(STUDY, evidence=moved), RunShape(model="other"))
    ranking = rank_run([first.storage.uri, second.storage.uri], CONFIG)
    assert ranking.run_id == first.run_id
    both = ranking.overlap.filter((pl.col("scope_a") == "overall") & (pl.col("scope_b") == "overall")).to_dicts()
    assert [(row["run_a"], row["run_b"], row["num_shared"], row["num_core"]) for row in both] == [
        (first.run_id, second.run_id, 1, 2)
    ]
    alone = open_run(second.storage.uri).stage("ranking", "overlap").collect()
    assert set(alone["run_a"]) == set(alone["run_b"]) == {second.run_id}


def test_wrong_calls_are_configuration_errors(tmp_path: Path) -> None:
    uri = write_run(tmp_path, STUDY).storage.uri
    with pytest.raises(ConfigError, match="given 2 times"):
        rank_run([uri, uri], CONFIG)
    with pytest.raises(ConfigError, match="no run was given"):
        rank_run([], CONFIG)
    with pytest.raises(ConfigError, match="did you mean 'ram_last'"):
        rank_run(uri, RankConfig(metric="ram_lst"))
    with pytest.raises(ConfigError, match=r"capture\.queries"):
        rank_run(uri, RankConfig(metric="ram_last"))
    larger = write_run(tmp_path, Study(planted_masses(8, PLANTED, shape=(6, 8))), RunShape(model="large"))
    with pytest.raises(ConfigError, match="compares models with the same layers and heads"):
        rank_run([uri, larger.storage.uri], CONFIG)


def test_domain_without_evidence_is_null_everywhere(tmp_path: Path) -> None:
    study = replace(STUDY, without_evidence=frozenset(range(1, 40, 2)))
    ranking = rank_run(write_run(tmp_path, study).storage.uri, CONFIG)
    films = ranking.ranking.filter(pl.col("scope") == "films")
    assert set(films["num_null"]) == {20}
    values = ("mean", "low", "high", "rank", "selection_probability", "share_of_positive_mass", "class")
    assert all(films[name].null_count() == 40 for name in values)
    assert ranking.core_heads("films") == []
    assert ranking.core_heads() == list(PLANTED)
