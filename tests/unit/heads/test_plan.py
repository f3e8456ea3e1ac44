"""From a ranking to arms."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rampipe.config import AblateConfig, RankConfig, SpeedConfig
from rampipe.errors import ConfigError
from rampipe.heads.plan import arms_table, check_disjoint_samples, make_plan, ranking_sha256
from rampipe.heads.rank import rank_run
from rampipe.tables.arms import Arm, plan_from_json, plan_to_json
from rampipe.tables.schema import load_schema
from rampipe.types import HeadId
from tests.unit.heads.made_ranking import made_ranking, random_means
from tests.unit.heads.planted import Study, planted_masses, write_run

RANKING = made_ranking({"overall": random_means(), "docs": random_means(seed=1)})
PLAN = make_plan(RANKING, AblateConfig(), kv_heads=4)


def layers(arm: Arm) -> Counter[int]:
    return Counter(head.layer for head in arm.heads)


def test_the_default_plan_has_every_arm_that_the_configuration_names() -> None:
    found = Counter(arm.strategy for arm in PLAN.arms)
    matched = found.pop("layer_matched_random") + len(PLAN.skipped)
    assert found == {"base": 1, "top": 5, "bottom": 5, "random": 25}
    assert matched == 25
    assert [arm.arm_id for arm in PLAN.arms][:3] == ["base", "top-0.01-zero-all", "random-0.01-s0-zero-all"]
    assert (PLAN.base.heads, PLAN.base.num_heads, PLAN.base.frac) == ((), 0, 0.0)
    assert (PLAN.num_heads, PLAN.kv_heads, PLAN.metric, PLAN.run_id) == (96, 4, "ram", "run")


def test_controls_avoid_their_target_and_match_it() -> None:
    for target in PLAN.arms:
        controls = PLAN.controls_of(target.arm_id)
        assert bool(controls) == (target.strategy == "top")
        for control in controls:
            assert not set(control.heads) & set(target.heads)
            assert control.num_heads == len(set(control.heads)) == target.num_heads
            assert control.frac == target.frac
            if control.strategy == "layer_matched_random":
                assert layers(control) == layers(target)
        assert len({control.heads for control in controls if control.strategy == "random"}) in (0, 5)
    plain = [arm for arm in PLAN.arms if arm.strategy == "random" and arm.frac == 0.2]
    assert any(layers(arm) != layers(PLAN.arm(str(arm.control_of))) for arm in plain)  # twin


def test_the_same_ranking_and_configuration_give_the_same_bytes() -> None:
    again = make_plan(
        made_ranking({"overall": random_means(), "docs": random_means(seed=1)}), AblateConfig(), kv_heads=4
    )
    assert plan_to_json(again) == plan_to_json(PLAN)
    assert plan_from_json(plan_to_json(PLAN), source="x") == PLAN
    other = made_ranking({"overall": random_means(seed=2), "docs": random_means(seed=1)})
    assert ranking_sha256(other) != PLAN.ranking_sha256  # twin
    judged_otherwise = AblateConfig(bootstrap_samples=50, seed=7)
    assert make_plan(RANKING, judged_otherwise, kv_heads=4).sha256 == PLAN.sha256


def test_a_published_ranking_is_planned(tmp_path: Path) -> None:
    planted = {HeadId(1, 2): 0.3, HeadId(3, 4): 0.2}
    run = write_run(tmp_path, Study(planted_masses(24, planted)))
    ranking = rank_run(run.storage.uri, RankConfig(bootstrap_samples=20))
    plan = make_plan(ranking, AblateConfig(fracs=(0.05,), seeds=1))
    assert plan.arm("top-0.05-zero-all").heads == tuple(sorted(ranking.core_heads())) == tuple(planted)
    again = rank_run(run.storage.uri, RankConfig(bootstrap_samples=20))  # read back, not made
    assert plan_to_json(make_plan(again, AblateConfig(fracs=(0.05,), seeds=1))) == plan_to_json(plan)


def test_other_fractions_do_not_change_an_arm() -> None:
    few = make_plan(RANKING, AblateConfig(fracs=(0.05,), strategies=("random", "top")), kv_heads=4)
    assert {arm.arm_id for arm in few.arms} < {arm.arm_id for arm in PLAN.arms}
    assert all(PLAN.arm(arm.arm_id) == arm for arm in few.arms)


def test_both_sparsities_stand_in_every_arm() -> None:
    grouped = make_plan(RANKING, AblateConfig(fracs=(0.25,), per=("query_head", "kv_head")), kv_heads=4)
    scattered, whole = grouped.arm("top-0.25-zero-all"), grouped.arm("top-0.25-kv-zero-all")
    assert scattered.num_heads == whole.num_heads == 24
    assert scattered.query_head_frac == whole.query_head_frac == whole.kv_head_frac == 0.25
    assert scattered.kv_head_frac is not None
    assert scattered.kv_head_frac > 0.5
    for control in grouped.controls_of(whole.arm_id):
        assert control.kv_head_frac == 0.25
    unknown = make_plan(RANKING, AblateConfig(fracs=(0.25,)))
    assert {arm.kv_head_frac for arm in unknown.arms} == {None}
    with pytest.raises(ConfigError, match="number of kv_heads is unknown"):
        make_plan(RANKING, AblateConfig(per=("kv_head",)))


def test_a_control_that_is_impossible_is_skipped_with_its_reason() -> None:
    means = np.vstack([np.full(4, 9.0) + np.arange(4), random_means(num_layers=3, num_heads=4)])
    plan = make_plan(made_ranking({"overall": means}), AblateConfig(fracs=(0.25,), seeds=2))
    assert [arm.num_heads for arm in plan.arms if arm.strategy == "random"] == [4, 4]
    assert [(arm.arm_id, arm.reason) for arm in plan.skipped] == [
        (
            f"layer_matched_random-0.25-s{seed}-zero-all",
            "layer 0 has 4 in the controlled arm, but 0 ranked ones are left outside it",
        )
        for seed in range(2)
    ]


def test_two_seeds_with_the_same_heads_are_one_arm() -> None:
    plan = make_plan(made_ranking({"overall": random_means(num_layers=1, num_heads=4)}), AblateConfig(fracs=(0.5,)))
    assert [arm.seed for arm in plan.arms if arm.strategy == "random"] == [0]
    reasons = [arm.reason for arm in plan.skipped if arm.arm_id.startswith("random")]
    assert reasons == ["the same heads as seed 0"] * 4


def test_one_domain_ranks_and_modes_multiply() -> None:
    config = AblateConfig(
        fracs=(0.05,),
        strategies=("top",),
        scopes=("overall", "docs"),
        modes=("zero", "mean"),
        positions=("all", "decode"),
    )
    plan = make_plan(RANKING, config)
    assert [arm.arm_id for arm in plan.arms[1:]] == [
        f"top-0.05-{mode}-{positions}{scope}"
        for scope in ("", "-from-docs")
        for mode in ("zero", "mean")
        for positions in ("all", "decode")
    ]
    assert plan.arm("top-0.05-mean-all").heads == plan.arm("top-0.05-zero-all").heads
    assert plan.arm("top-0.05-zero-all-from-docs").heads != plan.arm("top-0.05-zero-all").heads
    assert plan.arm("top-0.05-zero-all-from-docs").scope == "docs"
    with pytest.raises(ConfigError, match=r"scopes names 'doc': run run has rankings of \['docs', 'overall'\]"):
        make_plan(RANKING, AblateConfig(scopes=("doc",)))


def test_lists_bands_and_masses_are_arms_with_controls_of_their_own() -> None:
    config = AblateConfig(
        strategies=("band", "cumulative_mass", "from_list", "random"),
        bands=((0.05, 0.1),),
        heads=("1.2", "0.5"),
        seeds=1,
    )
    plan = make_plan(RANKING, config)
    assert [arm.arm_id for arm in plan.arms] == [
        "base",
        "band-0.05-0.1-zero-all",
        "cumulative_mass-0.5-zero-all",
        "random-cumulative_mass-0.5-s0-zero-all",
        "from_list-zero-all",
        "random-from_list-s0-zero-all",
    ]
    listed = plan.arm("from_list-zero-all")
    assert listed.heads == (HeadId(0, 5), HeadId(1, 2))
    assert listed.frac is None
    assert [arm.num_heads for arm in plan.controls_of(listed.arm_id)] == [2]


def test_heads_that_keep_full_attention() -> None:
    plan = make_plan(RANKING, SpeedConfig(full_fracs=(0.0, 0.05, 1.0), strategies=("top", "bottom", "random"), seeds=1))
    assert {(arm.kind, arm.mode) for arm in plan.arms[1:]} == {("keep", "hybrid")}
    assert (plan.base.kind, plan.base.heads) == ("ablate", ())
    assert {arm.arm_id: arm.num_heads for arm in plan.arms} == {
        "base": 0,
        "top-0-hybrid-all": 0,
        "top-0.05-hybrid-all": 5,
        "random-0.05-s0-hybrid-all": 5,
        "top-1-hybrid-all": 96,
        "bottom-0.05-hybrid-all": 5,
    }
    assert plan.skipped == ()  # as many heads as all, to be kept, are no control: nothing was asked for
    silenced = make_plan(RANKING, AblateConfig(fracs=(1.0,), strategies=("top", "random"), seeds=1))
    assert [arm.arm_id for arm in silenced.skipped] == ["random-1-s0-zero-all"]  # twin


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AblateConfig(strategies=("topp",)), "did you mean 'top'"),
        (AblateConfig(strategies=("bottom", "random")), "'random' has nothing to control"),
        (AblateConfig(strategies=("band",)), "ablate.bands is empty"),
        (AblateConfig(strategies=("from_list",)), "ablate.heads is empty"),
        (AblateConfig(strategies=("top", "top")), "stands there twice"),
        (AblateConfig(fracs=(0.1, 0.1)), "stands there twice"),
        (AblateConfig(strategies=("from_list",), heads=("L1H2",)), "'L1H2' is not"),
        (AblateConfig(strategies=("from_list",), heads=("9.9",)), "first 9.9"),
        (AblateConfig(strategies=("band",), bands=((0.2, 0.1),)), r"\[0.2, 0.1\] is no interval"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(config: AblateConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        make_plan(RANKING, config)
    assert "\n" not in str(raised.value)


def test_the_table_of_arms_is_the_plan() -> None:
    table = arms_table(PLAN)
    assert table.schema == load_schema("arms.v1").arrow_schema
    assert table.column("arm_id").to_pylist() == [arm.arm_id for arm in PLAN.arms]
    heads = [tuple(HeadId(**head) for head in row) for row in table.column("heads").to_pylist()]
    assert heads == [arm.heads for arm in PLAN.arms]


def test_the_samples_that_made_the_ranking_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"1 of 2 evaluated samples made the ranking \(of 2\), first 'b'"):
        check_disjoint_samples(["a", "b"], ["b", "c"])
    assert check_disjoint_samples(["a", "b"], ["b", "c"], allow=True) == 1
    assert check_disjoint_samples(["a", "b"], ["c", "d"]) == 0
    with pytest.raises(ConfigError, match=r"another split \(speed.split\)"):
        check_disjoint_samples(["a"], ["a"], key="speed.split")
