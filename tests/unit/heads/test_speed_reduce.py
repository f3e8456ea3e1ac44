"""Timings to ratios."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from rampipe.config import SpeedConfig
from rampipe.errors import DataError, IncompleteError
from rampipe.heads.plan import make_plan
from rampipe.heads.speed import speed_table
from rampipe.heads.verdict import judge
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.schema import load_schema
from tests.unit.heads.made_outcomes import made_outcomes
from tests.unit.heads.made_ranking import made_ranking, random_means
from tests.unit.heads.made_timings import devices_of, made_timings, wanted_of

RANKING = made_ranking({"overall": random_means()})
PLAN = make_plan(RANKING, SpeedConfig(full_fracs=(0.0, 0.1, 1.0), seeds=2), kv_heads=8)
TOP = "top-0.1-hybrid-all"


def keeps(arm: Arm, index: int) -> bool:
    """The base answers all right, the top arm all but one, every other arm half."""
    return arm.is_base or index >= (1 if arm.strategy == "top" else 20)


ACCURACY, _ = judge(made_outcomes(PLAN, keeps).lazy(), PLAN, bootstrap_samples=100)


def reduced(timings: pl.DataFrame, plan: ArmPlan = PLAN, **options: Any) -> pl.DataFrame:
    usual = {"wanted": wanted_of(plan), "devices": devices_of(plan), "accuracy": ACCURACY}
    return speed_table(timings.lazy(), plan, **{**usual, **options})


def row_of(speed: pl.DataFrame, arm_id: str = TOP, context_tokens: int = 8192) -> dict[str, Any]:
    rows = speed.filter(pl.col("arm_id") == arm_id, pl.col("context_tokens") == context_tokens)
    return rows.row(0, named=True)


def test_one_row_per_arm_and_length_in_the_order_of_the_plan() -> None:
    speed = reduced(made_timings(PLAN).sample(fraction=1.0, shuffle=True, seed=1))
    load_schema("speed.v1").check(speed.to_arrow().schema, source="speed")
    expected = [(arm.arm_id, tokens) for arm in PLAN.arms if not arm.is_base for tokens in (8192, 16384)]
    assert list(speed.select("arm_id", "context_tokens").iter_rows()) == expected
    assert speed.equals(reduced(made_timings(PLAN)))
    top = row_of(speed)
    assert (top["prefill_ratio"], top["decode_ratio"], top["cache_ratio"], top["peak_ratio"]) == (2.0, 2.0, 4.0, 1.25)
    assert (top["decode_tokens_per_s"], top["cache_bytes"], top["peak_bytes"], top["device"]) == (8.0, 250, 800, "cpu")
    assert (top["query_head_frac"], top["num_repeats"]) == (10 / 96, 3)
    assert top["kv_head_frac"] > top["query_head_frac"]


def test_the_median_of_ratios_is_not_the_ratio_of_medians() -> None:
    own, dense = (1.0, 2.0, 4.0), (3.0, 4.0, 5.0)  # ratios 3, 2, 1.25
    top = row_of(reduced(made_timings(PLAN, prefill_s=own, dense_prefill_s=dense, decode_s=own, dense_decode_s=dense)))
    for name in ("prefill", "decode"):
        assert [top[f"{name}_ratio{end}"] for end in ("", "_low", "_high")] == [2.0, 1.25, 3.0]
    swapped = row_of(reduced(made_timings(PLAN, prefill_s=(2.0, 1.0, 4.0), dense_prefill_s=(2.0, 4.0, 6.0))))
    assert swapped["prefill_ratio"] == 1.5  # twin: medians are 2.0 and 4.0, whose ratio is 2.0
    assert swapped["prefill_s"] == 2.0


def test_what_is_not_known_stays_null() -> None:
    speed = reduced(made_timings(PLAN, peak_bytes=(800, None, 900), dense_peak_bytes=(1000, 1000, 1000)))
    assert (row_of(speed)["peak_ratio"], row_of(speed)["peak_bytes"]) == (None, None)
    measured = row_of(reduced(made_timings(PLAN, peak_bytes=(800, 700, 900), dense_peak_bytes=(1000, 1000, 1000))))
    assert (measured["peak_ratio"], measured["peak_bytes"]) == (1.25, 900)  # twin
    names = ("num_pairs", "accuracy", "base_accuracy", "difference", "diff_low", "diff_high")
    unjudged = reduced(made_timings(PLAN), accuracy=ACCURACY.clear())
    assert [row_of(unjudged)[name] for name in names] == [None] * 6
    silent = judge(made_outcomes(PLAN, lambda arm, index: None).lazy(), PLAN, bootstrap_samples=10)[0]
    assert [row_of(reduced(made_timings(PLAN), accuracy=silent))[name] for name in names] == [0, *[None] * 5]
    ungrouped = make_plan(RANKING, SpeedConfig(full_fracs=(0.1,), seeds=2))
    assert row_of(reduced(made_timings(ungrouped), ungrouped))["kv_head_frac"] is None


def test_accuracy_is_that_of_the_judge_over_all_samples() -> None:
    top = row_of(reduced(made_timings(PLAN)))
    assert (top["num_pairs"], top["accuracy"], top["base_accuracy"]) == (40, 0.975, 1.0)
    assert top["difference"] == -0.025
    bottom = row_of(reduced(made_timings(PLAN)), "bottom-0.1-hybrid-all")
    assert (bottom["accuracy"], bottom["difference"]) == (0.5, -0.5)  # twin: another arm, other answers


def test_timings_of_another_plan_are_refused() -> None:
    foreign = made_timings(PLAN).with_columns(arm_id=pl.lit("top-0.2-hybrid-all"))
    with pytest.raises(DataError, match=r"1 arms are not to be timed in the plan of run, first 'top-0.2-hybrid-all'"):
        reduced(foreign)
    base = made_timings(PLAN).with_columns(arm_id=pl.lit("base"))
    with pytest.raises(DataError, match="first 'base'"):
        reduced(base)


def test_missing_timings_are_refused_unless_allowed() -> None:
    some = made_timings(PLAN).filter((pl.col("arm_id") != TOP) | (pl.col("context_tokens") != 16384))
    num_wanted = len(wanted_of(PLAN))
    with pytest.raises(IncompleteError, match=rf"1 of {num_wanted} pairs .* first '{TOP}' at 16,384 tokens"):
        reduced(some)
    partial = reduced(some, allow_partial=True)
    assert partial.height == num_wanted - 1
    assert partial.filter(pl.col("arm_id") == TOP).get_column("context_tokens").to_list() == [8192]
    without = wanted_of(PLAN) - {(TOP, 16384)}
    assert reduced(some, wanted=without).equals(partial)  # twin: one that failed is not wanted
    with pytest.raises(IncompleteError, match="there are none"):
        reduced(made_timings(PLAN).clear(), wanted=[])


@pytest.mark.parametrize("name", ["prefill_s", "dense_decode_s", "num_new_tokens", "cache_bytes", "peak_bytes"])
def test_no_division_by_nothing(name: str) -> None:
    with pytest.raises(DataError, match=rf"has {name} = 0"):
        reduced(made_timings(PLAN, **{name: (0, 0, 0)}))


def test_times_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="has prefill_s = nan"):
        reduced(made_timings(PLAN, prefill_s=(1.0, float("nan"), 1.0)))


def test_a_cache_that_changes_between_repetitions_is_refused() -> None:
    with pytest.raises(DataError, match="has 2 values of cache_bytes, allowed 1"):
        reduced(made_timings(PLAN, cache_bytes=(250, 251, 250)))


def test_a_repetition_that_stands_there_twice_is_refused() -> None:
    rows = made_timings(PLAN)
    with pytest.raises(DataError, match=r"repetition 0 of arm .* has 2 rows"):
        reduced(pl.concat([rows, rows.head(1)]))


def test_an_unrecorded_device_is_refused() -> None:
    with pytest.raises(DataError, match="nobody recorded"):
        reduced(made_timings(PLAN), devices={})
    other = replace(PLAN, arms=tuple(arm for arm in PLAN.arms if arm.arm_id in ("base", TOP)))
    assert row_of(reduced(made_timings(other), other, devices={TOP: "H200"}))["device"] == "H200"
