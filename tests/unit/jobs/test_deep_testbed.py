"""What `jobs.deep_testbed` draws and prints around the jobs that it calls."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from jobs.deep_testbed import CONFIG, METRICS, NUM_SCREENED, SHARES, accuracy_table, base_table, main, write_needles
from rampipe.config import load_config
from rampipe.errors import DataError
from rampipe.heads.verdict.outcomes import CONTROL
from rampipe.testbed.deep.dataset import write_deep_samples
from rampipe.testbed.deep.samples import TASKS

COLUMNS = ("scope", "strategy", "frac", "arm_id", "num_correct", "num_samples", "accuracy", "low", "high")


def accuracy_of(*rows: tuple[str, str, str, int]) -> pl.DataFrame:
    """Rows of accuracy.v1 with ten samples each: scope, strategy, arm, right answers."""
    full = [
        (scope, strategy, None if strategy == "base" else 0.05, arm, right, 10, right / 10, 0.0, 1.0)
        for scope, strategy, arm, right in rows
    ]
    return pl.DataFrame(full, schema=COLUMNS, orient="row")


def test_draws_are_averaged_by_kind_of_task_and_the_worst_on_images_is_told() -> None:
    table = accuracy_table(
        accuracy_of(
            ("glyph", "base", "base", 10),
            ("chart", "base", "base", 8),
            ("text", "base", "base", 7),
            (CONTROL, "base", "base", 6),
            ("overall", "base", "base", 1),
            *[("glyph", "random", f"r{draw}", right) for draw, right in enumerate((4, 8))],
            *[("text", "random", f"r{draw}", 5) for draw in range(2)],
            *[(CONTROL, "random", f"r{draw}", 3) for draw in range(2)],
        )
    )
    base, random = table.sort("strategy").rows(named=True)
    assert (base["image"], base["text"], base["echo"], base["lowest image"], base["arms"]) == (0.9, 0.7, 0.6, 0.9, 1)
    assert (random["text"], random["echo"], random["lowest image"], random["arms"]) == (0.5, 0.3, 0.4, 2)
    assert abs(random["image"] - 0.6) < 1e-9


def test_the_base_table_has_every_kind_and_no_arm() -> None:
    rows = [(scope, "base", "base", 9) for scope in ("glyph", "text", CONTROL, "overall")]
    table = base_table(accuracy_of(*rows, ("glyph", "top", "top", 0)))
    assert table.get_column("scope").to_list() == ["glyph", "text", CONTROL]
    assert set(table.get_column("accuracy")) == {0.9}


def test_needles_are_drawn_once_in_a_ranked_split_with_evidence_and_one_of_each_size(tmp_path: Path) -> None:
    write_needles(tmp_path, count=1)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    screened = {"train-short-00000.parquet", "train-short-00001.parquet"}
    assert set(first) == {"select-medium-00000.parquet", *screened, *(f"eval-{size}-00000.parquet" for size in SHARES)}
    control = pl.concat(pl.read_parquet(tmp_path / name) for name in sorted(screened))
    assert (set(control.get_column("domain")), control.height) == ({"echo"}, NUM_SCREENED)
    ranked = pl.read_parquet(tmp_path / "select-medium-00000.parquet")
    assert "echo" not in set(ranked.get_column("domain"))
    write_needles(tmp_path, count=1)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == first


def test_what_an_interrupted_call_left_is_completed_and_more_than_asked_for_is_refused(tmp_path: Path) -> None:
    write_needles(tmp_path, count=1)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "train-short-00001.parquet").unlink()
    write_needles(tmp_path, count=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole
    write_deep_samples(tmp_path, split="select", count_per_task=2, seed=0, size="medium", tasks=TASKS)
    with pytest.raises(DataError, match=r"select-medium.*--out"):
        write_needles(tmp_path, count=1)


def test_the_config_ranks_by_rows_that_see_the_evidence_and_judges_on_other_samples() -> None:
    config = load_config(CONFIG)
    assert {config.prompt.order: config.rank.metric, "question_first": "ram_last"} == METRICS
    assert config.ablate.split == "eval-short"
    assert config.speed.split == "eval-long"
    assert config.speed.keep_text


def test_a_wrong_key_is_one_line(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--set", "modle.path=x"]) == 2
