"""Answers and timings become the tables of the stage, once, and nothing that is missing is hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rampipe.config import AblateConfig, SpeedConfig
from rampipe.errors import IncompleteError, StorageError
from rampipe.heads.plan import make_plan
from rampipe.heads.speed.stage import SpeedTables, speed_stage
from rampipe.tables.arms import Arm
from rampipe.tables.run import Run
from tests.unit.heads.made_outcomes import made_outcomes
from tests.unit.heads.made_ranking import made_ranking, random_means
from tests.unit.heads.made_runs import written_outcomes, written_timings
from tests.unit.heads.planted import Study, planted_masses, write_run

SPEED = SpeedConfig(full_fracs=(0.0, 0.1), seeds=2, timed_seeds=1, context_tokens=(512, 2048))
ABLATE = AblateConfig(bootstrap_samples=20)
PLAN = make_plan(made_ranking({"overall": random_means()}), SPEED, kv_heads=8)
TOP, DRAWS = "top-0.1-hybrid-all", ("random-0.1-s0-hybrid-all", "random-0.1-s1-hybrid-all")


def keeps(arm: Arm, index: int) -> bool:
    return arm.is_base or index >= (1 if arm.strategy == "top" else 20)


@pytest.fixture
def parent(tmp_path: Path) -> Run:
    return write_run(tmp_path, Study(planted_masses(8, {})))


def reduced(parent: Run, ablate: AblateConfig = ABLATE, **options: Any) -> SpeedTables:
    answers = written_outcomes(parent, made_outcomes(PLAN, keeps), PLAN, folder="speed/answers")
    usual: dict[str, Any] = {"lengths": SPEED.context_tokens, "devices": ["cpu"]}
    timings = written_timings(parent, PLAN, **{**usual, **options})
    sources = {"answers": answers.storage.uri, "timings": timings.storage.uri}
    return speed_stage(parent.storage.uri, sources, PLAN, speed=SPEED, ablate=ablate)


def test_tables_of_the_stage(parent: Run) -> None:
    tables = reduced(parent, devices=["H200", "H100"])
    timed = ["top-0-hybrid-all", TOP, DRAWS[0], "bottom-0.1-hybrid-all"]
    assert tables.speed.get_column("arm_id").unique(maintain_order=True).to_list() == timed
    assert tables.speed.get_column("context_tokens").to_list() == [512, 2048] * 4
    assert tables.speed.get_column("device").to_list() == ["H200", "H200", "H100", "H100"] * 2
    assert tables.speed.get_column("prefill_ratio").unique().to_list() == [2.0]
    assert tables.speed.get_column("peak_ratio").null_count() == 8
    judged = tables.accuracy.filter(pl.col("scope") == "overall").get_column("arm_id").to_list()
    assert set(judged) == {"base", DRAWS[1], *timed}  # a draw that is only answered is judged
    assert tables.untimed == ()
    published = [path for path in parent.storage.list("speed") if path.count("/") == 1]
    names = ("_SUCCESS.json", "accuracy.parquet", "arms.parquet", "speed.parquet")
    assert sorted(published) == [f"speed/{name}" for name in names]


def test_a_current_stage_is_not_made_again(parent: Run) -> None:
    reduced(parent)
    path = Path(parent.storage.uri) / "speed" / "speed.parquet"
    before = path.stat().st_mtime_ns
    reduced(parent)
    assert path.stat().st_mtime_ns == before
    assert reduced(parent, prefill_s=0.5).speed.get_column("prefill_ratio").unique().to_list() == [4.0]  # twin
    assert path.stat().st_mtime_ns != before


def test_what_failed_has_no_row_and_is_named(parent: Run) -> None:
    tables = reduced(parent, failed=[f"{TOP}@2048"])
    assert tables.speed.filter(pl.col("arm_id") == TOP).get_column("context_tokens").to_list() == [512]
    assert tables.untimed == ((TOP, 2048),)
    again = reduced(parent, failed=[f"{TOP}@2048"])
    assert again.untimed == ((TOP, 2048),)


def test_what_is_missing_is_refused_unless_allowed(parent: Run) -> None:
    with pytest.raises(IncompleteError, match="is not finished: 3 of 4 units"):
        reduced(parent, uncommitted=1)
    with pytest.raises(IncompleteError, match=r"4 of 8 pairs of arm and length are missing.* at 2,048 tokens"):
        reduced(parent, lengths=[512])  # whole by itself, yet not what was asked for
    partial = reduced(parent, ABLATE.model_copy(update={"allow_partial": True}), uncommitted=1)
    assert partial.untimed == (("bottom-0.1-hybrid-all", 512), ("bottom-0.1-hybrid-all", 2048))


def test_a_flipped_bit_is_found(parent: Run) -> None:
    timings = written_timings(parent, PLAN, lengths=SPEED.context_tokens, devices=["cpu"])
    path = Path(timings.storage.uri) / timings.storage.list("timings")[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match="its bytes have changed"):
        reduced(parent)
