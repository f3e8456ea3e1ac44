"""The plan as a file: what is read is what was written, or an error that names it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from rampipe.errors import DataError
from rampipe.tables.arms import Arm, ArmPlan, SkippedArm, plan_from_json, plan_to_json
from rampipe.types import HeadId

BASE = Arm(
    arm_id="base", strategy="base", kind="ablate", mode="zero", positions="all", per="query_head", scope="overall",
    frac=0.0, seed=None, control_of=None, num_heads=0, query_head_frac=0.0, kv_head_frac=0.0, heads=(),
)  # fmt: skip
HEADS = (HeadId(0, 3), HeadId(2, 1))
TOP = replace(
    BASE, arm_id="top-0.1-zero-all", strategy="top", frac=0.1, num_heads=2, query_head_frac=0.1, kv_head_frac=0.3,
    heads=HEADS,
)  # fmt: skip
DRAW = replace(TOP, arm_id="random-0.1-s0-zero-all", strategy="random", seed=0, control_of=TOP.arm_id)
PLAN = ArmPlan("run-é", "ram", "0" * 64, 20, 2, {"fracs": [0.0, 0.1]}, (BASE, TOP, DRAW), (SkippedArm("x", "why"),))


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, kv_heads=None, skipped=(), arms=(BASE,))])
def test_round_trip_is_the_identity(plan: ArmPlan) -> None:
    data = plan_to_json(plan)
    again = plan_from_json(data, source="plan.json")
    assert again == plan
    assert plan_to_json(again) == data
    assert again.sha256 == plan.sha256
    assert json.loads(data)["version"] == 1


def test_the_hash_is_of_the_content() -> None:
    other = replace(PLAN, arms=(BASE, replace(TOP, heads=(HeadId(0, 3), HeadId(2, 2))), DRAW))
    assert other.sha256 != PLAN.sha256
    reordered = json.dumps(json.loads(plan_to_json(PLAN)), sort_keys=False, indent=4).encode()
    assert plan_from_json(reordered, source="x").sha256 == PLAN.sha256


def test_arms_are_found_by_name_and_by_what_they_control() -> None:
    assert PLAN.base is BASE
    assert PLAN.arm("top-0.1-zero-all") is TOP
    assert PLAN.controls_of("top-0.1-zero-all") == (DRAW,)
    assert PLAN.controls_of("base") == ()
    with pytest.raises(DataError, match=r"no arm 'top-0\.2'"):
        PLAN.arm("top-0.2")


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ((BASE, TOP, TOP), "2 arms 'top-0.1-zero-all', allowed 1"),
        ((TOP,), "0 base arms, allowed 1"),
        ((BASE, replace(BASE, arm_id="other")), "2 base arms, allowed 1"),
        ((BASE, DRAW), "controls 'top-0.1-zero-all', which is not in the plan"),
    ],
)
def test_a_plan_that_is_no_experiment_is_refused(arms: tuple[Arm, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(PLAN, arms=arms)


def damaged(**change: Any) -> bytes:
    return json.dumps(json.loads(plan_to_json(PLAN)) | change).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not a plan of arms"),
        (b"[]", "not a plan of arms"),
        (damaged(version=2), "version 2 of a plan, known is 1"),
        (damaged(extra=1), "not a plan of arms .*extra"),
        (damaged(arms=[{"arm_id": "base"}]), "not a plan of arms"),
        (damaged(arms=[]), "0 base arms"),
    ],
)
def test_a_damaged_file_is_named(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        plan_from_json(data, source="plan.json")
