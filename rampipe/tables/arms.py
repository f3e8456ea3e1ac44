"""The plan of an experiment as a file: which heads each arm silences or keeps. The table half writes, the model half
reads; `schemas/arms.v1.json` is the same as a table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from rampipe.errors import DataError
from rampipe.tables.fingerprint import canonical_json, fingerprint
from rampipe.types import HeadId

PLAN_VERSION = 1
BASE = "base"

ArmKind = Literal["ablate", "keep"]
ArmMode = Literal["zero", "mean", "evidence_knockout", "uniform", "hybrid"]
ArmPositions = Literal["all", "after_context", "decode"]
ChosenPer = Literal["query_head", "kv_head"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One configuration of an experiment.

    heads: sorted query heads that are ablated, or, for `keep`, the only ones with full attention. frac: what was asked
    of the strategy, a share of heads or kv_heads (`cumulative_mass`: of the positive mass; `band`: its width; null for
    a user's list). scope: whose ranking was used, "overall" or a domain. control_of: the arm whose heads this random
    draw avoids. kv_head_frac: share of kv_heads with at least one of these heads; null when grouping is unknown.
    """

    arm_id: str
    strategy: str
    kind: ArmKind
    mode: ArmMode
    positions: ArmPositions
    per: ChosenPer
    scope: str
    frac: float | None
    seed: int | None
    control_of: str | None
    num_heads: int
    query_head_frac: float
    kv_head_frac: float | None
    heads: tuple[HeadId, ...]

    @property
    def is_base(self) -> bool:
        """The model as it is: no head is touched."""
        return self.strategy == BASE


@dataclass(frozen=True, slots=True)
class SkippedArm:
    """An arm that was asked for and cannot be had."""

    arm_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """All arms of an experiment, the base first, and what they were made from.

    run_id, metric, ranking_sha256: the ranking. num_heads: query heads of the model that were ranked. kv_heads: per
    layer; null when unknown. settings: JSON values of the configuration.
    Raises DataError for two arms of one id, a missing base, and a control of an arm that is not there.
    """

    run_id: str
    metric: str
    ranking_sha256: str
    num_heads: int
    kv_heads: int | None
    settings: Mapping[str, Any]
    arms: tuple[Arm, ...]
    skipped: tuple[SkippedArm, ...] = ()

    def __post_init__(self) -> None:
        counts = Counter(arm.arm_id for arm in self.arms)
        twice = sorted(arm_id for arm_id, count in counts.items() if count > 1)
        if twice:
            raise DataError(f"plan of {self.run_id}: {counts[twice[0]]} arms {twice[0]!r}, allowed 1. Make it again.")
        bases = [arm.arm_id for arm in self.arms if arm.is_base]
        if len(bases) != 1:
            raise DataError(f"plan of {self.run_id}: {len(bases)} base arms, allowed 1. Make it again.")
        for arm in self.arms:
            if arm.control_of is not None and arm.control_of not in counts:
                raise DataError(
                    f"plan of {self.run_id}: arm {arm.arm_id!r} controls {arm.control_of!r}, which is not in the plan. "
                    "Make it again."
                )

    @property
    def base(self) -> Arm:
        """The arm that all others are compared with."""
        return next(arm for arm in self.arms if arm.is_base)

    def arm(self, arm_id: str) -> Arm:
        """The arm of that id. Raises DataError when there is none."""
        for arm in self.arms:
            if arm.arm_id == arm_id:
                return arm
        raise DataError(f"plan of {self.run_id}: no arm {arm_id!r}; it has {[arm.arm_id for arm in self.arms][:20]}.")

    def controls_of(self, arm_id: str) -> tuple[Arm, ...]:
        """The random draws that this arm is held against, in the plan's order."""
        return tuple(arm for arm in self.arms if arm.control_of == arm_id)

    @property
    def sha256(self) -> str:
        """Identity of the plan: the same for the same content, however it is spelled."""
        return fingerprint(_content(self))


def plan_to_json(plan: ArmPlan) -> bytes:
    """One spelling per plan, an arm per line."""
    content = _content(plan)
    arms, skipped = content.pop("arms"), content.pop("skipped")
    header = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).removesuffix("\n}")
    return f'{header},\n "arms": {_lines(arms)},\n "skipped": {_lines(skipped)}\n}}\n'.encode()


def plan_from_json(data: bytes, *, source: str) -> ArmPlan:
    """Read what `plan_to_json` wrote. Raises DataError naming `source` for anything else."""
    try:
        content = json.loads(data)
        version = content.pop("version")
        if version != PLAN_VERSION:
            raise DataError(f"{source}: version {version!r} of a plan, known is {PLAN_VERSION}. Make it again.")
        arms = tuple(_arm(raw) for raw in content.pop("arms"))
        skipped = tuple(SkippedArm(**raw) for raw in content.pop("skipped"))
        return ArmPlan(**content, arms=arms, skipped=skipped)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{source}: not a plan of arms ({type(error).__name__}: {error}). Make it again.") from None


def _content(plan: ArmPlan) -> dict[str, Any]:
    content = {field.name: getattr(plan, field.name) for field in fields(plan)}
    content |= {"version": PLAN_VERSION, "settings": dict(plan.settings)}
    content["arms"] = [{**asdict(arm), "heads": [[head.layer, head.head] for head in arm.heads]} for arm in plan.arms]
    content["skipped"] = [asdict(arm) for arm in plan.skipped]
    return content


def _arm(raw: Mapping[str, Any]) -> Arm:
    values: dict[str, Any] = dict(raw)
    values["heads"] = tuple(HeadId(int(layer), int(head)) for layer, head in values["heads"])
    return Arm(**values)


def _lines(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "[]"
    return "[\n  " + ",\n  ".join(canonical_json(row).decode() for row in rows) + "\n ]"
