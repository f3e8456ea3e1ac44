"""The screen of the lowest heads: a partition of the lower half, and the heads that its answers call idle."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from rampipe.config import AblateConfig
from rampipe.errors import ConfigError
from rampipe.heads.plan import make_plan
from rampipe.heads.screen import MAX_BANDS, TOLERANCE, idle_heads, is_needed, needs_screen, screen_config
from rampipe.heads.verdict.judge import judge
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.types import HeadId
from tests.unit.heads.made_outcomes import made_outcomes
from tests.unit.heads.made_ranking import made_ranking, random_means

CONFIG = AblateConfig(strategies=("top", "bottom", "bottom_idle"), split="eval", screen_split="control")
MEANS = random_means()
RANKING = made_ranking({"overall": MEANS})


def screen_of(means: np.ndarray) -> ArmPlan:
    return make_plan(made_ranking({"overall": means}), screen_config(CONFIG, num_heads=means.size))


def lowest(means: np.ndarray) -> list[HeadId]:
    """The lower half, the lowest last."""
    order = np.argsort(-means.ravel(), kind="stable")[-(means.size // 2) :]
    return [HeadId(*divmod(int(index), means.shape[1])) for index in order]


def judged(plan: ArmPlan, needed: HeadId) -> pl.DataFrame:
    """The control fails where this head is silenced; one sample of forty is wrong in every arm."""

    def answer(arm: Arm, index: int) -> bool:
        return index != 3 and (needed not in arm.heads or index >= 2)

    outcomes = made_outcomes(plan, answer, num_samples=0, num_controls=40)
    return judge(outcomes.lazy(), plan, bootstrap_samples=10)[0]


@pytest.mark.parametrize(
    ("num_layers", "num_heads", "num_bands"), [(6, 16, 32), (8, 16, 32), (3, 4, 6), (28, 28, 32), (1, 1, 1), (1, 3, 1)]
)
def test_bands_cut_the_lower_half_into_equal_parts(num_layers: int, num_heads: int, num_bands: int) -> None:
    means = random_means(num_layers=num_layers, num_heads=num_heads, seed=4)
    bands = [arm.heads for arm in screen_of(means).arms if not arm.is_base]
    assert len(bands) == num_bands <= MAX_BANDS
    heads = [head for band in bands for head in band]
    assert len(heads) == len(set(heads)) == max(1, means.size // 2)
    assert means.size == 1 or set(heads) == set(lowest(means))
    assert max(map(len, bands)) - min(map(len, bands)) <= 1


def test_heads_of_a_band_that_the_control_needs_are_not_idle() -> None:
    plan, needed = screen_of(MEANS), lowest(MEANS)[-1]
    idle = idle_heads(judged(plan, needed), plan)
    (band,) = [arm.heads for arm in plan.arms if needed in arm.heads]
    assert idle == frozenset(lowest(MEANS)) - frozenset(band)
    assert 0 < len(band) <= 2
    chosen = make_plan(RANKING, CONFIG.model_copy(update={"fracs": (0.05,)}), idle=idle)
    assert needed in chosen.arm("bottom-0.05-zero-all").heads
    assert chosen.arm("bottom_idle-0.05-zero-all").heads == tuple(
        sorted([head for head in lowest(MEANS) if head in idle][-5:])
    )


def test_without_a_needed_head_both_bottoms_are_the_same() -> None:
    plan = screen_of(MEANS)
    idle = idle_heads(judged(plan, HeadId(99, 0)), plan)
    assert idle == frozenset(lowest(MEANS))
    chosen = make_plan(RANKING, CONFIG, idle=idle)
    assert chosen.arm("bottom_idle-0.05-zero-all").heads == chosen.arm("bottom-0.05-zero-all").heads


def test_what_counts_as_needed() -> None:
    assert not is_needed({"difference": -TOLERANCE, "log_prob_difference": -TOLERANCE})
    assert not is_needed({"difference": 0.5, "log_prob_difference": None})
    assert is_needed({"difference": -0.025, "log_prob_difference": 0.0})
    assert is_needed({"difference": 0.0, "log_prob_difference": -0.03})
    assert is_needed({"difference": None, "log_prob_difference": None})


def test_a_split_without_a_control_sample_is_refused() -> None:
    plan = screen_of(MEANS)
    outcomes = made_outcomes(plan, lambda arm, index: True, num_samples=4)
    with pytest.raises(ConfigError, match=r"ablate\.screen_split 'control': no sample is without images and evidence"):
        idle_heads(judge(outcomes.lazy(), plan, bootstrap_samples=10)[0], plan)


def test_the_split_must_be_named_and_another_than_the_evaluated_one() -> None:
    assert needs_screen(CONFIG)
    assert not needs_screen(AblateConfig())
    with pytest.raises(ValidationError, match=r"chooses by ablate\.screen_split, which is not set"):
        AblateConfig(strategies=("bottom_idle",))
    with pytest.raises(ValidationError, match="is the evaluated split"):
        AblateConfig(split="eval", screen_split="eval")
    assert AblateConfig(split="eval", screen_split="eval", allow_same_samples=True).screen_split == "eval"


def test_other_settings_of_the_ablation_make_no_other_screen() -> None:
    """Nor does the name of the split make another ablation, whose arms name their heads."""
    other = CONFIG.model_copy(update={"fracs": (0.1,), "modes": ("mean",)})
    assert screen_config(other, num_heads=96) == screen_config(CONFIG, num_heads=96)
    idle, renamed = frozenset(lowest(MEANS)), CONFIG.model_copy(update={"screen_split": "other"})
    assert make_plan(RANKING, renamed, idle=idle).sha256 == make_plan(RANKING, CONFIG, idle=idle).sha256
    assert screen_config(renamed, num_heads=96) != screen_config(CONFIG, num_heads=96)  # twin
