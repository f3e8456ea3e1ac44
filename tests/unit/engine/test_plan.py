from __future__ import annotations

from pathlib import Path

import pytest

from rampipe.config import RunConfig, load_config
from rampipe.data import Shard, open_source
from rampipe.engine.capture import run_capture
from rampipe.engine.plan import count_heads, cut_units, estimate, make_spec
from rampipe.errors import ConfigError
from rampipe.tables.commit import CommitRecord
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from rampipe.types import Unit

SHARDS = [Shard("a.parquet", 5, 100, "sha256:a"), Shard("b.parquet", 4, 90, "sha256:b")]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, split="select", count_per_domain=4, seed=5, shard_rows=8)
    return folder


def make_config(samples: Path, *overrides: str) -> RunConfig:
    return load_config(
        None, [f"model.path={weights_path()}", "model.dtype=float32", f"data.path={samples}", *overrides]
    )


def fingerprint(samples: Path, *overrides: str) -> str:
    config = make_config(samples, *overrides)
    return make_spec(config, open_source(config.data)).fingerprint


def test_units_stay_within_a_shard_and_cover_every_row_once() -> None:
    units, shards = cut_units(SHARDS, unit_samples=2)
    assert [(unit.shard, unit.row_start, unit.row_stop) for unit in units] == [
        ("a.parquet", 0, 2), ("a.parquet", 2, 4), ("a.parquet", 4, 5), ("b.parquet", 0, 2), ("b.parquet", 2, 4),
    ]  # fmt: skip
    assert [unit.unit_id for unit in units] == list(range(5))
    assert shards == SHARDS


@pytest.mark.parametrize(("limit", "rows", "num_shards"), [(1, 1, 1), (5, 5, 1), (6, 6, 2), (99, 9, 2)])
def test_a_limit_takes_the_first_samples(limit: int, rows: int, num_shards: int) -> None:
    units, shards = cut_units(SHARDS, unit_samples=2, limit=limit)
    assert sum(unit.num_samples for unit in units) == rows
    assert len(shards) == num_shards


def test_heads_are_counted_from_the_configuration(samples: Path) -> None:
    assert count_heads(make_config(samples)) == 6 * 16
    assert count_heads(make_config(samples, "capture.layers=[5, 0, 5]")) == 2 * 16
    with pytest.raises(ConfigError, match=r"capture\.layers = \[6\].*in layers 0-5"):
        count_heads(make_config(samples, "capture.layers=[6]"))


def test_one_set_of_layers_has_one_fingerprint(samples: Path) -> None:
    asked = fingerprint(samples, "capture.layers=[1, 4]")
    assert asked == fingerprint(samples, "capture.layers=[4, 1, 1]")
    assert asked != fingerprint(samples)


@pytest.mark.parametrize(
    "override",
    [
        "model.dtype=bfloat16",
        "model.attention=eager",
        "prompt.order=question_first",
        "evidence.min_overlap=0.5",
        'capture.queries=["last"]',
        "capture.calibrate=false",
        "capture.backend=lse",
        "capture.layers=[2]",
        "capture.unit_samples=4",
        "capture.batch_tokens=99",
        "capture.max_pixels=1000",
        "data.limit=3",
        "stop.level=0.9",
        "stop.on_request=true",
    ],
)
def test_what_changes_numbers_changes_the_fingerprint(samples: Path, override: str) -> None:
    assert fingerprint(samples, override) != fingerprint(samples)


@pytest.mark.parametrize(
    "override",
    [
        "cluster.replicas=7",
        "rank.k_frac=0.5",
        "rank.distributed=true",
        "report.examples=1",
        "out=elsewhere",
        "rank.seed=3",
        "stop.seed=3",
    ],
)
def test_what_changes_no_number_does_not(samples: Path, override: str) -> None:
    assert fingerprint(samples, override) == fingerprint(samples)


def test_the_order_of_a_run_that_may_end_early_is_its_own(samples: Path) -> None:
    asked = "stop.on_request=true"
    assert fingerprint(samples, asked, "stop.seed=3") != fingerprint(samples, asked)
    assert fingerprint(samples, asked, "rank.k_frac=0.5") == fingerprint(samples, asked)  # twin: the ranking's
    assert fingerprint(samples, "stop.level=0.9", "rank.k_frac=0.5") != fingerprint(samples, "stop.level=0.9")


def test_the_score_changes_numbers_only_where_answers_are_predicted(samples: Path) -> None:
    predicting = "capture.predict_tokens=4"
    assert fingerprint(samples, predicting, "data.score=anls") != fingerprint(samples, predicting)
    assert fingerprint(samples, "data.score=anls") == fingerprint(samples)


def test_a_changed_shard_changes_the_fingerprint(samples: Path, tmp_path: Path) -> None:
    copy = tmp_path / samples.name
    write_samples(copy, split="select", count_per_domain=4, seed=6, shard_rows=8)
    assert fingerprint(copy) != fingerprint(samples)


def test_the_estimate_is_of_what_is_left_and_its_time_is_measured(samples: Path) -> None:
    config = make_config(samples, "capture.unit_samples=4")
    spec = make_spec(config, open_source(config.data))
    whole = estimate(spec, {}, num_replicas=2)
    assert (whole.num_units, whole.num_samples, whole.num_rows) == (4, 16, 16 * 2 * 96)
    assert whole.seconds is None
    done = CommitRecord(0, "f", (), 4, 0, 768, 1, "node", "cpu", {}, 8.0)
    left = estimate(spec, {0: done}, num_replicas=2)
    assert (left.num_samples, left.seconds) == (12, 2.0 * 12 / 2)


def test_a_plan_is_printed_and_nothing_is_written(samples: Path, tmp_path: Path) -> None:
    said = list[str]()
    outcome = run_capture(make_config(samples, f"out={tmp_path}"), plan_only=True, announce=said.append)
    assert "16 of 16 left" in said[0]
    assert "unknown" in said[0]
    assert not outcome.complete
    assert list(tmp_path.iterdir()) == []


def test_units_know_their_names() -> None:
    assert Unit(17, "a.parquet", 0, 2).name == "unit-000017"
