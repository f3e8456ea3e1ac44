"""The ablation job around what is done: what it prints, publishes and leaves alone."""

from __future__ import annotations

import pytest

from jobs.ablate import main
from jobs.arms import plan_arms
from rampipe.heads.rank import rank_run
from rampipe.tables.derived import read_stage
from rampipe.tables.storage import open_storage
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


def test_the_samples_of_the_ranking_are_refused(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(captured, "--set", "ablate.split=select") == 2
    assert "is the ranked split" in capsys.readouterr().err
