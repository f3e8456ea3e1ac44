"""The pipeline around stages that are done: all of them in order, nothing twice, the claims last."""

from __future__ import annotations

import pytest

from jobs.arms import plan_arms
from jobs.pipeline import main
from rampipe.heads.rank import rank_run
from tests.ablated import finished_ablation
from tests.unit.jobs.conftest import Captured, files_of
from tests.unit.jobs.test_speed import finish_stage

pytestmark = pytest.mark.usefixtures("no_cluster")


def pipeline(captured: Captured, *flags: str) -> int:
    return main(["--config", str(captured.file), *flags])


def test_a_plan_tells_every_stage_and_starts_nothing(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_of(captured.uri)
    assert pipeline(captured, "--plan") == 0
    told = capsys.readouterr().out
    assert "units:   0 of 2 left" in told
    assert f"ablation: arms are unknown until {captured.uri} is captured and ranked" in told
    assert f"speed: arms are unknown until {captured.uri} is captured and ranked" in told
    assert files_of(captured.uri) == before
    rank_run(captured.uri, captured.config.rank)
    assert pipeline(captured, "--plan") == 0
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if line.startswith("  work:")] == [
        "  work:  4 arms x 12 samples",
        "  work:  5 arms x 12 samples",
        "  work:  3 arms x 2 lengths x 2 repetitions, beside dense attention",
    ]


def test_the_claims_are_the_last_thing_printed(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    config = captured.config
    ranking = rank_run(captured.uri, config.rank)
    finished_ablation(config, captured.uri, plan_arms(config, config.ablate, ranking))
    finish_stage(captured)
    assert pipeline(captured) == 0
    last = capsys.readouterr().out.splitlines()[-4:]
    assert last[0] == "what this run says:"
    assert [line.split()[0] for line in last[1:]] == ["sparse", "causal", "fast"]
    assert " heads (" in last[1]
    assert "without the top 5 % accuracy is " in last[2]
    assert "full attention for top 10 % alone: prefill " in last[3]
    assert " at 128 tokens " in last[3]
    before = files_of(captured.uri)
    assert pipeline(captured) == 0
    after = files_of(captured.uri)
    assert before.keys() == after.keys()
    assert {path for path in after if after[path] != before[path]} == {f"{captured.uri}/README.md"}  # always derived


def test_a_stage_without_a_split_is_left_out(captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    text = captured.file.read_text(encoding="utf-8")
    alone = captured.file.with_name("alone.toml")
    alone.write_text(text.partition("[ablate]")[0], encoding="utf-8")
    assert main(["--config", str(alone)]) == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == [
        "  causal unknown: no head was silenced (ablate.split is not set)",
        "  fast unknown: nothing was timed (speed.split is not set)",
    ]
