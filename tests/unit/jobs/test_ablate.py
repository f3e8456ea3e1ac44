"""The ablation job around what is done: what it prints, publishes and leaves alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.ablate import main
from jobs.arms import plan_arms
from jobs.screen import planned_screen, screen_run
from rampipe.config import load_config
from rampipe.heads.rank import rank_run
from rampipe.heads.screen import idle_heads
from rampipe.heads.verdict.judge import judge
from rampipe.tables.chain import read_stages
from rampipe.tables.derived import read_stage
from rampipe.tables.read import open_run
from rampipe.tables.shards import write_shards
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import verify
from rampipe.types import ContextPart, Sample
from tests.ablated import finished_ablation
from tests.unit.jobs.conftest import Captured, files_of

pytestmark = pytest.mark.usefixtures("no_cluster")


def ablate(captured: Captured, *flags: str) -> int:
    return main([captured.uri, "--config", str(captured.file), *flags])


def test_a_plan_writes_nothing_and_counts(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_of(captured.uri)
    assert ablate(captured, "--plan") == 0
    assert capsys.readouterr().out == f"ablation: arms are unknown until {captured.uri} is captured and ranked\n"
    assert files_of(captured.uri) == before
    rank_run(captured.uri, captured.config.rank)
    before = files_of(captured.uri)
    assert ablate(captured, "--plan") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1:] == [
        "  work:  4 arms x 12 samples",
        "  units: 2 of 2 left",
        "  time:  unknown until the first unit is done",
    ]
    assert files_of(captured.uri) == before


def test_what_was_run_is_judged_published_and_told(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    ranking = rank_run(captured.uri, captured.config.rank)
    finished_ablation(captured.config, captured.uri, plan_arms(captured.config, captured.config.ablate, ranking))
    assert ablate(captured) == 0
    told = capsys.readouterr().out.splitlines()
    accuracy = read_stage(open_storage(captured.uri), "ablation")["accuracy"]
    base = accuracy.to_pylist()[0]
    assert told[-3] == f"base: {base['num_correct']} of {base['num_samples']} right"
    assert told[-2].startswith("top 5 % ")
    assert told[-1].startswith("bottom 5 % ")
    before = files_of(captured.uri)
    assert ablate(captured) == 0
    assert files_of(captured.uri) == before
    assert ablate(captured, "--plan") == 0
    assert capsys.readouterr().out.endswith("  units: 0 of 2 left\n  time:  none, it is done\n")


def test_idle_heads_are_screened_first(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    """The screen is an ablation of its own, on text alone, and is not made again."""
    write_shards(
        (
            Sample(f"text-{index}", "text", (ContextPart("text", text=f"{index} 7"),), (), "say 4", ("4",), None, ())
            for index in range(3)
        ),
        captured.config.data.path, split="text", rows_per_shard=3, replace=True,
    )  # fmt: skip
    flags = ["--set", "ablate.screen_split=text", "--set", 'ablate.strategies=["top","bottom","bottom_idle"]']
    config = load_config(captured.file, flags[1::2])
    ranking = rank_run(captured.uri, config.rank)
    assert ablate(captured, *flags, "--plan") == 0
    told = capsys.readouterr().out
    assert "screen: " in told
    assert "33 arms x 3 samples" in told
    assert "arm bottom_idle-0.05-zero-all is skipped: which heads the control does not need was not screened" in told

    screened, plan = planned_screen(config, ranking)
    run = finished_ablation(screened, captured.uri, plan, folder="screen")
    idle = screen_run(config, captured.uri, ranking)
    assert idle == idle_heads(judge(open_run(run.storage.uri).outcomes, plan, bootstrap_samples=10)[0], plan)
    assert idle
    finished_ablation(config, captured.uri, plan_arms(config, config.ablate, ranking, idle=idle))
    assert ablate(captured, *flags) == 0
    told = capsys.readouterr().out
    assert f"screen: the control does not need {len(idle)} of the 48 lowest heads" in told
    assert "\nbottom idle 5 % " in told
    before = files_of(captured.uri)
    assert ablate(captured, *flags, "--plan") == 0
    assert "is skipped" not in capsys.readouterr().out
    assert files_of(captured.uri) == before
    assert "screen" in read_stages(open_storage(captured.uri))[0]
    assert verify(open_storage(captured.uri)).ok


def test_a_screen_of_evaluated_samples_is_refused(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(captured.config.data.path)
    for shard in folder.glob("eval-*"):
        shutil.copy(shard, shard.with_name(shard.name.replace("eval-", "again-")))
    flags = ["--set", "ablate.screen_split=again", "--set", 'ablate.strategies=["bottom_idle"]']
    assert ablate(captured, *flags) == 2
    assert "12 of its samples are evaluated too, first" in capsys.readouterr().err


def test_the_samples_of_the_ranking_are_refused(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(captured, "--set", "ablate.split=select") == 2
    assert "is the ranked split" in capsys.readouterr().err
