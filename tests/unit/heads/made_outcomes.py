"""Outcomes whose verdict is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from rampipe.heads.ranking import to_table
from rampipe.tables.arms import Arm, ArmPlan

Answer = Callable[[Arm, int], bool | None]


def made_outcomes(
    plan: ArmPlan, answer: Answer, *, num_samples: int = 40, num_controls: int = 0, per_context: int = 1,
    domains: Sequence[str] = ("docs", "films"),
) -> pl.DataFrame:  # fmt: skip
    """One row per arm and sample; the last `num_controls` samples are the control set."""
    rows = list[dict[str, object]]()
    for arm in plan.arms:
        for index in range(num_samples + num_controls):
            correct = answer(arm, index)
            rows.append(
                {
                    "arm_id": arm.arm_id, "sample_id": f"s{index:04d}", "domain": domains[index % len(domains)],
                    "context_key": f"{index // per_context:016x}", "control": index >= num_samples,
                    "prediction": None if correct is None else "42", "correct": correct,
                    "score": None, "answer_log_prob": None if correct is None else -1.0 if correct else -3.0,
                }
            )  # fmt: skip
    return pl.DataFrame(to_table(rows, "outcomes.v1"))


def top_matters(arm: Arm, index: int) -> bool:
    """Base answers all but one right; the top arms one; random draw s all but s + 1; the control set is unharmed."""
    if index >= 40:
        return index % 5 != 0
    if arm.strategy == "top":
        return index == 5
    return index >= (1 if arm.seed is None else arm.seed + 1)
