"""Sentences about speed say the numbers of the table, and what is not known."""

from __future__ import annotations

from typing import Any

import polars as pl

from rampipe.config import SpeedConfig
from rampipe.heads.plan import make_plan
from rampipe.heads.speed import speed_lines, speed_table
from rampipe.heads.verdict import judge
from rampipe.tables.arms import Arm
from tests.unit.heads.made_outcomes import made_outcomes
from tests.unit.heads.made_ranking import made_ranking, random_means
from tests.unit.heads.made_timings import devices_of, made_timings, wanted_of

RANKING = made_ranking({"overall": random_means()})
PLAN = make_plan(RANKING, SpeedConfig(full_fracs=(0.0, 0.1, 1.0), seeds=2), kv_heads=8)
TOP = "full attention for top 10 % alone: "


def keeps(arm: Arm, index: int) -> bool | None:
    return arm.is_base or index >= (1 if arm.strategy == "top" else 20 - (arm.seed or 0))


def lines_of(answer: Any = keeps, **columns: Any) -> list[str]:
    accuracy, _ = judge(made_outcomes(PLAN, answer).lazy(), PLAN, bootstrap_samples=10)
    timings = made_timings(PLAN, lengths=[16384], **columns).lazy()
    wanted = wanted_of(PLAN, lengths=[16384])
    speed = speed_table(timings, PLAN, wanted=wanted, devices=devices_of(PLAN), accuracy=accuracy)
    return speed_lines(speed, accuracy)


def top_line(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith(TOP))


def test_the_sentence_says_ratio_cache_both_sparsities_accuracy_and_control() -> None:
    lines = lines_of(prefill_s=(1.0, 1.25, 1.0), dense_prefill_s=(1.9, 2.25, 1.84))
    top = PLAN.arm("top-0.1-hybrid-all")
    assert top.kv_head_frac is not None
    kv_heads = f"{top.kv_head_frac * 100:.4g} %"
    assert top_line(lines) == (
        f"{TOP}prefill 1.84 x dense at 16,384 tokens (3 repetitions, 1.80 to 1.90), decode 2.00 x dense (2.00 to "
        f"2.00), cache 25 % of dense, peak memory 80 % of dense; 10.42 % of query heads, {kv_heads} of "
        "kv_heads; accuracy 0.97 of 1.00; kept instead, random costs at least 0.47 (2 draws)"
    )
    assert lines[0].startswith("timed on cpu, each repetition beside dense attention in the same process")
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "full attention for no head",
        TOP.rstrip(": "),
        "full attention for every head",
        "full attention for bottom 10 % alone",
    ]


def test_no_gain_is_said_to_be_none() -> None:
    slower = top_line(lines_of(dense_prefill_s=(0.8, 0.9, 0.95), dense_decode_s=(3.9, 4.0, 4.4)))
    assert "prefill 0.90 x dense at 16,384 tokens (3 repetitions, 0.80 to 0.95; slower), " in slower
    assert "decode 1.00 x dense (0.97 to 1.10; not clearly faster), " in slower
    faster = top_line(lines_of())  # twin
    assert "slower" not in faster
    assert "clearly" not in faster


def test_what_is_not_known_is_said() -> None:
    line = top_line(lines_of(lambda arm, index: None, peak_bytes=(None,), dense_peak_bytes=(None,)))
    assert "prefill 2.00 x dense at 16,384 tokens (1 repetition), decode 2.00 x dense, cache" in line
    assert "peak memory not measured; " in line
    assert line.endswith("accuracy unknown; kept instead, random unknown")


def test_a_cache_that_the_plan_did_not_predict_is_said() -> None:
    assert "cache 26 % of dense (260 bytes, 250 were predicted)" in top_line(lines_of(cache_bytes=(260,) * 3))


def test_what_was_not_timed_comes_first() -> None:
    accuracy, _ = judge(made_outcomes(PLAN, keeps).lazy(), PLAN, bootstrap_samples=10)
    timings = made_timings(PLAN, lengths=[16384]).filter(pl.col("arm_id") != "bottom-0.1-hybrid-all").lazy()
    missing = [("bottom-0.1-hybrid-all", 16384)]
    wanted = wanted_of(PLAN, lengths=[16384])
    speed = speed_table(timings, PLAN, wanted=wanted, devices=devices_of(PLAN), accuracy=accuracy, allow_partial=True)
    lines = speed_lines(speed, accuracy, untimed=missing)
    assert lines[0] == "NOT TIMED: bottom-0.1-hybrid-all at 16,384 tokens"
    assert not any("bottom" in line for line in lines[1:])
