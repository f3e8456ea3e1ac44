"""One claim about a run, decided by its numbers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from rampipe.heads.scopes import OVERALL

_SAID = {True: "holds", False: "does NOT hold", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Claim:
    """holds: null when the run cannot tell. told: the numbers. against: why it does not hold, or what is missing."""

    name: str
    holds: bool | None
    told: str
    against: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = [part for part in (*self.against, self.told) if part]
        return f"{self.name} {_SAID[self.holds]}: {'; '.join(told)}"


def decide(name: str, told: str, *, against: Sequence[str], unknown: Sequence[str]) -> Claim:
    """It holds when nothing is against it; what speaks against it outweighs what is not known."""
    if against:
        return Claim(name, False, told, tuple(against))
    return Claim(name, None, told, tuple(unknown)) if unknown else Claim(name, True, told)


def claim_lines(claims: Iterable[Claim]) -> list[str]:
    """A heading and a line per claim."""
    return ["what this run says:", *(f"  {claim}" for claim in claims)]


def nearest_arm(rows: pl.DataFrame, frac: float) -> dict[str, Any] | None:
    """The arm of the overall ranking's top heads whose share is nearest to `frac`; null when there is none.

    rows: of accuracy.v1 or speed.v1. Of two equally near, the smaller; of several modes or ways to choose, the first.
    """
    arms = rows.filter(
        pl.col("strategy") == "top", pl.col("ranking_scope") == OVERALL, pl.col("frac") > 0.0, pl.col("frac") < 1.0
    )
    distance = (pl.col("frac") - frac).abs().round(9)
    near = arms.with_columns(distance.alias("distance")).sort("distance", "frac", maintain_order=True)
    return near.row(0, named=True) if near.height else None
