"""The speed job around what is done: what it prints, publishes and leaves alone."""

from __future__ import annotations

import pytest

from jobs.arms import plan_arms
from jobs.speed import main
from rampipe.heads.rank import rank_run
from rampipe.tables.derived import read_stage
from rampipe.tables.storage import open_storage
from tests.ablated import finished_ablation
from tests.timed import finished_timings
from tests.unit.jobs.conftest import Captured, files_of

pytestmark = pytest.mark.usefixtures("no_cluster")


def speed(captured: Captured, *flags: str) -> int:
    return main([captured.uri, "--config", str(captured.file), *flags])


def finish_stage(captured: Captured) -> None:
    config = captured.config
    plan = plan_arms(config, config.speed, rank_run(captured.uri, config.rank))
    finished_ablation(config, captured.uri, plan, folder="speed/answers", split=config.speed.split)
    finished_timings(config, captured.uri, plan)


def test_a_plan_writes_nothing_and_counts(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    assert speed(captured, "--plan") == 0
    assert capsys.readouterr().out == f"speed: arms are unknown until {captured.uri} is captured and ranked\n"
    rank_run(captured.uri, captured.config.rank)
    before = files_of(captured.uri)
    assert speed(captured, "--plan") == 0
    told = capsys.readouterr().out.splitlines()
    unknown = "  time:  unknown until the first unit is done"
    assert told[0].startswith(f"speed/answers: {captured.uri}/speed/answers/")
    assert told[1:4] == ["  work:  5 arms x 12 samples", "  units: 2 of 2 left", unknown]
    assert told[4].startswith(f"speed/timings: {captured.uri}/speed/timings/")
    work = "  work:  3 arms x 2 lengths x 2 repetitions, beside dense attention"
    assert told[5:] == [work, "  units: 3 of 3 left", unknown]
    assert files_of(captured.uri) == before


def test_what_was_run_is_reduced_published_and_told(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    finish_stage(captured)
    capsys.readouterr()
    assert speed(captured) == 0
    told = capsys.readouterr().out.splitlines()
    tables = read_stage(open_storage(captured.uri), "speed")
    assert set(tables) == {"speed", "accuracy", "arms"}
    rows = tables["speed"].to_pylist()
    assert [(row["strategy"], row["context_tokens"]) for row in rows] == [
        (strategy, tokens) for strategy in ("top", "random", "bottom") for tokens in (96, 128)
    ]
    assert all(row["cache_bytes"] == row["predicted_cache_bytes"] for row in rows)
    assert tables["accuracy"].num_rows == 5 * 5  # four domains and all samples
    lines = [line for line in told if line.startswith("full attention for ")]
    names = ["full attention for top 10 % alone"] * 2 + ["full attention for bottom 10 % alone"] * 2
    assert [line.partition(":")[0] for line in lines] == names
    assert all(" of query heads, " in line and " of kv_heads; accuracy " in line for line in lines)
    before = files_of(captured.uri)
    assert speed(captured) == 0
    assert files_of(captured.uri) == before
    capsys.readouterr()
    assert speed(captured, "--plan") == 0
    assert capsys.readouterr().out.count("  time:  none, it is done\n") == 2


def test_what_cannot_be_run_is_refused_first(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    text = captured.file.read_text(encoding="utf-8")
    without = captured.file.with_name("without.toml")
    without.write_text(text.partition("[speed]")[0], encoding="utf-8")
    assert main([captured.uri, "--config", str(without)]) == 2
    assert "speed.split is not set" in capsys.readouterr().err
    assert speed(captured, "--set", "speed.split=select") == 2
    assert "speed.split 'select' is the ranked split" in capsys.readouterr().err
    assert speed(captured, "--set", "speed.context_tokens=[100000]") == 2
    assert "speed.context_tokens 100000" in capsys.readouterr().err
