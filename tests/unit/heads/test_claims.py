"""Every claim is decided by its numbers: made to hold, made to fail, and made unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from rampipe.config import AblateConfig, SpeedConfig
from rampipe.heads.claims import Claim, causal, claim_lines, fast, sparse
from rampipe.heads.plan import make_plan
from rampipe.heads.rank import Ranking
from rampipe.heads.ranking import to_frame, to_table
from rampipe.heads.speed import speed_table
from rampipe.heads.verdict import judge
from rampipe.tables.arms import Arm
from tests.unit.heads.made_outcomes import Answer, made_outcomes, top_matters
from tests.unit.heads.made_ranking import made_ranking, random_means
from tests.unit.heads.made_timings import devices_of, made_timings, wanted_of

RANKING = made_ranking({"overall": random_means()})
ABLATION = make_plan(RANKING, AblateConfig(fracs=(0.0, 0.02, 0.05, 0.1), seeds=3), kv_heads=8)
SPEED = make_plan(RANKING, SpeedConfig(full_fracs=(0.0, 0.05, 0.1, 1.0), seeds=2), kv_heads=8)


def ranking_with(half_mass_heads: int | None, num_heads: int = 96) -> Ranking:
    row = {
        "scope": "overall", "metric": "ram", "num_samples": 8, "num_null": 0, "num_clusters": 8, "num_core": 5,
        "num_heads": num_heads, "num_contextual": 0, "positive_mass": 1.0, "half_mass_heads": half_mass_heads,
        "half_mass_frac": None if half_mass_heads is None else half_mass_heads / num_heads, "gini": None,
    }  # fmt: skip
    return replace(RANKING, concentration=to_frame(to_table([row], "concentration.v1")))


def caused(answer: Answer, **options: Any) -> Claim:
    accuracy, _ = judge(made_outcomes(ABLATION, answer, **options).lazy(), ABLATION, bootstrap_samples=100)
    return causal(accuracy, k_frac=0.05)


def sped(answer: Answer, **columns: Any) -> Claim:
    accuracy, _ = judge(made_outcomes(SPEED, answer).lazy(), SPEED, bootstrap_samples=100)
    wanted, devices = wanted_of(SPEED), devices_of(SPEED)
    timings = made_timings(SPEED, **columns).lazy()
    return fast(speed_table(timings, SPEED, wanted=wanted, devices=devices, accuracy=accuracy), accuracy)


def top_keeps(arm: Arm, index: int) -> bool:
    """Top arms keep every answer, draw s loses 20 - s of 40."""
    return arm.is_base or arm.strategy == "top" or index >= 20 - (arm.seed or 0)


def test_sparse_is_few_heads() -> None:
    assert str(sparse(ranking_with(4))) == "sparse holds: half of the ram mass sits in 4.167 % of heads (4 of 96)"
    many = sparse(ranking_with(10))
    assert many.holds is False
    assert str(many).startswith("sparse does NOT hold: few would be at most 10 %; half of the ram mass sits in 10.42 %")
    nothing = sparse(ranking_with(None))
    assert (nothing.holds, str(nothing)) == (None, "sparse unknown: no head has a positive mean of ram")


def test_concentration_of_a_real_ranking_decides() -> None:
    """Equal heads are not sparse: the number comes from the table, not from the number of CoRe heads."""
    equal = np.full((6, 16), 0.5)
    assert sparse(replace(ranking_with(48), ranking=made_ranking({"overall": equal}).ranking)).holds is False


def test_causal_is_the_top_and_no_other_heads() -> None:
    claim = caused(top_matters)
    kv_heads = ABLATION.arm("top-0.05-zero-all").kv_head_frac
    assert kv_heads is not None
    assert str(claim) == (
        "causal holds: without the top 5 % accuracy is 0.03 of 0.97 (5.208 % of query heads, in "
        f"{kv_heads * 100:.4g} % of kv_heads); bottom removes 0.00; random removes at most 0.05 (3 draws); "
        "layer-matched random removes at most 0.05 (3 draws)"
    )


@pytest.mark.parametrize(
    ("harmful", "named"),
    [
        ({"random"}, "random heads are as harmful (removes 0.95)"),
        ({"layer_matched_random"}, "layer-matched random heads are as harmful (removes 0.95)"),
        ({"bottom"}, "bottom heads are as harmful (removes 0.95)"),
    ],
)
def test_causal_does_not_hold_when_others_are_as_harmful(harmful: set[str], named: str) -> None:
    def answer(arm: Arm, index: int) -> bool:
        return index < 2 if arm.strategy in {"top", *harmful} and arm.seed in (None, 1) else True

    claim = caused(answer)
    assert (claim.holds, claim.against) == (False, (named,))
    assert str(claim).startswith(f"causal does NOT hold: {named}; without the top 5 % accuracy is 0.05 of 1.00")


def test_causal_does_not_hold_when_nothing_is_removed() -> None:
    same = caused(lambda arm, index: index >= 2)
    assert (same.holds, same.against) == (False, ("removing them removes no right answer",))
    barely = caused(lambda arm, index: index != 5 or arm.strategy != "top")
    assert barely.holds is False
    assert barely.against[0].startswith("what they remove may be nothing (interval -0.0")


def test_causal_is_unknown_without_what_it_needs() -> None:
    assert causal(None, k_frac=0.05).holds is None
    assert caused(lambda arm, index: None).against == ("no answer was judged with and without the top 5 %",)
    undrawn = make_plan(RANKING, AblateConfig(fracs=(0.05,), strategies=("top",)), kv_heads=8)
    accuracy, _ = judge(made_outcomes(undrawn, top_matters).lazy(), undrawn, bootstrap_samples=100)
    alone = causal(accuracy, k_frac=0.05)
    assert (alone.holds, alone.against) == (None, ("held against no random draw",))
    assert caused(top_matters, per_context=40).against[0] == "too few contexts for an interval"


def test_causal_takes_the_size_that_is_nearest_to_the_core_heads() -> None:
    accuracy, _ = judge(made_outcomes(ABLATION, top_matters).lazy(), ABLATION, bootstrap_samples=10)
    assert "without the top 10 % " in causal(accuracy, k_frac=0.2).told
    assert "without the top 2 % " in causal(accuracy, k_frac=0.001).told


def test_claims_are_about_the_first_way_to_choose_heads() -> None:
    def answer(arm: Arm, index: int) -> bool:
        return arm.per == "query_head" or top_matters(arm, index)

    for per, found in ((("kv_head", "query_head"), True), (("query_head", "kv_head"), False)):
        plan = make_plan(RANKING, AblateConfig(fracs=(0.05,), seeds=2, per=per), kv_heads=8)
        accuracy, _ = judge(made_outcomes(plan, answer).lazy(), plan, bootstrap_samples=100)
        assert causal(accuracy, k_frac=0.05).holds is found
        assert (" of kv_heads accuracy " in causal(accuracy, k_frac=0.05).told) is found


def test_fast_is_faster_at_the_longest_prompt_with_the_answers_kept() -> None:
    claim = sped(top_keeps)
    assert claim.holds is True
    assert str(claim).startswith(
        "fast holds: full attention for top 10 % alone: prefill 2.00 x dense at 16,384 tokens (3 repetitions, "
    )
    assert claim.told.endswith("; accuracy 1.00 of 1.00; kept instead, random costs at least 0.47 (2 draws)")
    assert "10.42 % of query heads, " in claim.told


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"dense_prefill_s": (0.9, 0.8, 0.9)}, "prefill is not faster than dense"),
        ({"dense_prefill_s": (1.0, 1.0, 1.0)}, "prefill is not faster than dense"),
        ({"dense_prefill_s": (0.9, 0.9, 9.0)}, "prefill is not faster than dense"),
        ({"dense_decode_s": (3.0, 3.0, 3.0)}, "decode is not faster than dense"),
    ],
)
def test_fast_does_not_hold_when_something_is_not_faster(columns: dict[str, Any], reason: str) -> None:
    claim = sped(top_keeps, **columns)
    assert (claim.holds, claim.against) == (False, (reason,))
    assert str(claim).startswith(f"fast does NOT hold: {reason}; full attention for top 10 % alone")


@pytest.mark.parametrize("name", ["prefill", "decode"])
def test_fast_is_unknown_when_repetitions_disagree(name: str) -> None:
    claim = sped(top_keeps, **{f"dense_{name}_s": (9.0, 0.9, 9.0)})
    assert (claim.holds, claim.against) == (None, (f"{name} is faster than dense in some repetitions only",))


def test_fast_does_not_hold_when_answers_go_or_random_heads_do_as_well() -> None:
    lost = sped(lambda arm, index: arm.is_base or index >= (4 if arm.strategy == "top" else 30))
    assert lost.against == ("accuracy changes by -0.10",)
    assert lost.holds is False
    alike = sped(lambda arm, index: True)
    assert (alike.holds, alike.against) == (False, ("random heads that are kept do as well",))


def test_fast_is_unknown_without_what_it_needs() -> None:
    assert (fast(None, None).holds, fast(None, None).told) == (None, "")
    silent = sped(lambda arm, index: None)
    assert (silent.holds, silent.against[0]) == (None, "no answer was judged with and without it")
    assert sped(lambda arm, index: None, dense_prefill_s=(0.9,) * 3).holds is False  # what is known comes first


def test_claims_are_told_one_a_line() -> None:
    lines = claim_lines([sparse(ranking_with(4)), causal(None, k_frac=0.05), fast(None, None)])
    assert lines[0] == "what this run says:"
    assert [line.split(":")[0] for line in lines[1:]] == ["  sparse holds", "  causal unknown", "  fast unknown"]


def test_no_usual_top_arm_is_said() -> None:
    plan = make_plan(RANKING, AblateConfig(fracs=(0.05,), strategies=("bottom",)), kv_heads=8)
    accuracy, _ = judge(made_outcomes(plan, top_matters).lazy(), plan, bootstrap_samples=10)
    assert causal(accuracy, k_frac=0.05).against == ("the ablation has no arm of the top heads",)
    accuracy, _ = judge(made_outcomes(SPEED, top_keeps).lazy(), SPEED, bootstrap_samples=10)
    timings = made_timings(SPEED).filter(~pl.col("arm_id").str.starts_with("top-")).lazy()
    table = speed_table(timings, SPEED, wanted=[], devices=devices_of(SPEED), accuracy=accuracy)
    assert fast(table, accuracy).against == ("no arm of the top heads was timed at the longest prompt",)
