"""The verdict: numbers of known outcomes, and sentences that say nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from rampipe.config import AblateConfig, SpeedConfig
from rampipe.errors import DataError, IncompleteError
from rampipe.heads.plan import make_plan
from rampipe.heads.verdict import judge, spread_of_controls
from rampipe.tables.arms import Arm
from rampipe.tables.schema import load_schema
from tests.unit.heads.made_outcomes import made_outcomes, top_matters
from tests.unit.heads.made_ranking import made_ranking, random_means

RANKING = made_ranking({"overall": random_means()})
CONFIG = AblateConfig(fracs=(0.0, 0.05), seeds=3)
PLAN = make_plan(RANKING, CONFIG, kv_heads=4)
OUTCOMES = made_outcomes(PLAN, top_matters, num_controls=20, per_context=2)
FEW: dict[str, Any] = {"bootstrap_samples": 100}


def row_of(accuracy: pl.DataFrame, arm_id: str, scope: str = "overall") -> dict[str, Any]:
    return accuracy.filter(pl.col("arm_id") == arm_id, pl.col("scope") == scope).row(0, named=True)


def judged(outcomes: pl.DataFrame, **options: Any) -> tuple[pl.DataFrame, list[str]]:
    return judge(outcomes.lazy(), PLAN, **FEW, **options)


def test_numbers_of_known_outcomes() -> None:
    accuracy, _ = judged(OUTCOMES)
    load_schema("accuracy.v1").check(accuracy.to_arrow().schema, source="accuracy")
    base, top = row_of(accuracy, "base"), row_of(accuracy, "top-0.05-zero-all")
    assert (base["num_samples"], base["num_correct"], base["accuracy"]) == (40, 39, 0.975)
    assert [base[name] for name in ("difference", "diff_low", "mcnemar_p", "holm_p", "num_lost")] == [None] * 5
    assert (top["num_lost"], top["num_gained"], top["num_pairs"], top["num_clusters"]) == (38, 0, 40, 20)
    assert (top["accuracy"], top["base_accuracy"], top["difference"]) == (0.025, 0.975, -0.95)
    assert top["diff_low"] <= -0.95 <= top["diff_high"] < -0.8
    assert top["mcnemar_p"] == 2.0**-37
    assert top["holm_p"] == 2.0**-37 * 8  # top, bottom, and two kinds of three draws
    assert top["log_prob_difference"] == pytest.approx(-2.0 * 38 / 40)
    assert (top["query_head_frac"], top["num_heads"]) == (5 / 96, 5)
    assert top["kv_head_frac"] > top["query_head_frac"]
    bottom = row_of(accuracy, "bottom-0.05-zero-all")
    assert (bottom["difference"], bottom["holm_p"]) == (0.0, 1.0)  # twin: an arm that changes nothing


def test_scopes_are_all_but_the_control_set_the_control_set_and_domains() -> None:
    accuracy, _ = judged(OUTCOMES)
    assert accuracy.get_column("scope").unique(maintain_order=True).to_list() == ["overall", "control", "docs", "films"]
    sizes = [row_of(accuracy, "base", scope)["num_samples"] for scope in ("overall", "control", "docs", "films")]
    assert sizes == [40, 20, 20, 20]
    control = row_of(accuracy, "top-0.05-zero-all", "control")
    assert (control["accuracy"], control["difference"]) == (0.8, 0.0)


def test_order_of_rows_changes_nothing() -> None:
    assert judged(OUTCOMES.sample(fraction=1.0, shuffle=True, seed=3))[0].equals(judged(OUTCOMES)[0])


def test_the_sentence_says_the_numbers_of_the_tables() -> None:
    accuracy, lines = judged(OUTCOMES)
    top = row_of(accuracy, "top-0.05-zero-all")
    spread = spread_of_controls(accuracy).filter(pl.col("scope") == "overall")
    worst = dict(spread.select("strategy", "difference_min").iter_rows())
    assert worst == {"random": -0.05, "layer_matched_random": -0.05}
    assert lines[0] == (
        f"top 5 % removes {-top['difference']:.2f} of {top['base_accuracy']:.2f} (difference {top['difference']:.2f}, "
        f"95 % interval {top['diff_low']:.2f} to {top['diff_high']:.2f}, Holm p < 0.001, 40 samples), "
        f"answer log-probability {top['log_prob_difference']:.2f} nats per token; "
        f"random removes at most {-worst['random']:.2f} (3 draws); "
        f"layer-matched random removes at most {-worst['layer_matched_random']:.2f} (3 draws); "
        "more than every random draw"
    )
    assert lines[1].startswith("bottom 5 % removes 0.00 of 0.97 (difference 0.00,")
    assert lines[2].startswith("text-only control: top 5 % removes 0.00 of 0.80")
    assert len(lines) == 4


def test_numbers_of_the_sentence_follow_the_outcomes() -> None:
    """Twin: other outcomes, another sentence; a top arm like any random one is told so."""

    def same_for_all(arm: Arm, index: int) -> bool:
        return arm.is_base or index >= 10

    accuracy, lines = judged(made_outcomes(PLAN, same_for_all))
    assert row_of(accuracy, "top-0.05-zero-all")["difference"] == -0.25
    assert lines[0].startswith("top 5 % removes 0.25 of 1.00 (difference -0.25")
    assert lines[0].endswith("; not more than random")


def test_an_improvement_is_not_called_a_loss() -> None:
    def helps(arm: Arm, index: int) -> bool:
        return index >= (20 if arm.is_base else 10)

    _, lines = judged(made_outcomes(PLAN, helps))
    assert lines[0].startswith("top 5 % adds 0.25 of 0.50 (difference +0.25")
    assert "; random adds at least 0.25 (3 draws);" in lines[0]


def test_heads_that_are_kept_are_better_than_random_ones() -> None:
    def keeps(arm: Arm, index: int) -> bool:
        return arm.is_base or index >= (1 if arm.strategy == "top" else 20)

    plan = make_plan(RANKING, SpeedConfig(full_fracs=(0.05,), seeds=2))
    _, lines = judge(made_outcomes(plan, keeps).lazy(), plan, **FEW)
    assert lines[0].startswith("full attention for top 5 % alone costs 0.03 of 1.00 ")
    assert lines[0].endswith("; random costs at least 0.50 (2 draws); better than every random draw")


def test_no_head_and_every_head_are_named_so_and_have_no_draws_to_beat() -> None:
    plan = make_plan(RANKING, SpeedConfig(full_fracs=(0.0, 0.05, 1.0), strategies=("top",)))
    _, lines = judge(made_outcomes(plan, lambda arm, index: index > 1).lazy(), plan, **FEW)
    told = [(line.partition(" costs ")[0], line.endswith("held against no random draw")) for line in lines]
    assert told == [
        ("full attention for no head", False),
        ("full attention for top 5 % alone", True),
        ("full attention for every head", False),
    ]


def test_answers_without_a_verdict_are_counted_and_not_wrong() -> None:
    def silent(arm: Arm, index: int) -> bool | None:
        return None if arm.strategy == "top" and index < 10 else index >= 10

    accuracy, lines = judged(made_outcomes(PLAN, silent))
    top = row_of(accuracy, "top-0.05-zero-all")
    assert (top["num_unpredicted"], top["num_pairs"], top["accuracy"], top["difference"]) == (10, 30, 1.0, 0.0)
    assert "30 samples, 10 samples without a pair" in lines[0]


def test_no_predictions_at_all_are_null() -> None:
    accuracy, lines = judged(made_outcomes(PLAN, lambda arm, index: None))
    columns = [
        "accuracy",
        "low",
        "difference",
        "diff_low",
        "mcnemar_p",
        "holm_p",
        "log_prob_difference",
        "base_accuracy",
    ]
    assert accuracy.select(columns).null_count().row(0) == (accuracy.height,) * len(columns)
    assert lines[0].startswith("top 5 %: accuracy unknown")
    assert "random unknown" in lines[0]


def test_unpaired_samples_are_refused_unless_told() -> None:
    lacking = OUTCOMES.filter((pl.col("arm_id") != "top-0.05-zero-all") | (pl.col("sample_id") > "s0002"))
    with pytest.raises(
        IncompleteError, match=r"1 of 9 arms lack samples; 'top-0.05-zero-all' has 57 of 60, without 's0000'"
    ):
        judged(lacking)
    accuracy, lines = judged(lacking, allow_partial=True)
    top = row_of(accuracy, "top-0.05-zero-all")
    assert (top["num_missing"], top["num_unpredicted"], top["num_pairs"], top["num_samples"]) == (3, 0, 37, 40)
    assert lines[0] == f"PARTIAL: 3 of {9 * 60} outcomes are missing"


def test_an_arm_that_never_ran_is_missing() -> None:
    without = OUTCOMES.filter(pl.col("arm_id") != "bottom-0.05-zero-all")
    with pytest.raises(IncompleteError, match=r"'bottom-0\.05-zero-all' has 0 of 60"):
        judged(without)
    with pytest.raises(IncompleteError, match="there are none"):
        judged(OUTCOMES.clear())
    row = row_of(judged(without, allow_partial=True)[0], "bottom-0.05-zero-all")
    assert (row["num_missing"], row["accuracy"], row["difference"], row["holm_p"]) == (40, None, None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.lit("other").alias("arm_id"), "1 arms are not in the plan of run, first 'other'"),
        (pl.lit("s0000").alias("sample_id"), "sample 's0000' has 60 rows in arm 'base'"),
        (pl.lit("control").alias("domain"), "domain 'control' is the name of a scope"),
        (pl.lit(float("-inf")).alias("answer_log_prob"), "has answer_log_prob = -inf"),
        ((pl.col("domain") + pl.col("arm_id")).alias("domain"), "'s0000' differs between arms"),
    ],
)
def test_outcomes_that_do_not_belong_together_are_refused(change: pl.Expr, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        judged(OUTCOMES.with_columns(change))


def test_the_spread_of_draws_is_that_of_their_differences() -> None:
    accuracy, _ = judged(OUTCOMES)
    spread = spread_of_controls(accuracy)
    load_schema("spread.v1").check(spread.to_arrow().schema, source="spread")
    row = spread.row(0, named=True)
    assert (row["scope"], row["arm_id"], row["strategy"], row["num_arms"]) == (
        "overall",
        "top-0.05-zero-all",
        "random",
        3,
    )
    assert row["difference_max"] == 0.0
    assert row["difference_min"] == -0.05
    assert row["difference_mean"] == pytest.approx(-0.025)
    assert row["difference_sd"] == pytest.approx(0.025)


def test_arms_without_controls_say_so() -> None:
    plan = make_plan(RANKING, CONFIG.model_copy(update={"strategies": ("top", "bottom")}))
    _, lines = judge(made_outcomes(plan, top_matters).lazy(), plan, **FEW)
    assert lines[0].endswith("held against no random draw")
    assert "random" not in lines[1]
    assert replace(plan, skipped=()) == plan
