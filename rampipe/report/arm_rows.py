"""The arms of an ablation as text: each one that was chosen, and the spread of the random draws it is held against."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from rampipe.heads.scopes import OVERALL
from rampipe.heads.verdict.outcomes import CONTROL
from rampipe.report.numbers import ABSENT, counted
from rampipe.tables.arms import BASE

Row = dict[str, Any]

ARM_COLUMNS = (
    "arm",
    "query heads (%)",
    "kv_heads touched (%)",
    "accuracy",
    "its interval",
    "difference to base",
    "its interval",
    "McNemar p",
    "Holm p",
)
WAY = ("kind", "mode", "positions", "per", "ranking_scope")
"""What tells apart ways to touch heads: arms of one way differ in the heads alone."""
DOMAIN_COLUMNS = ("samples of", "number", BASE)


def spell(strategy: str) -> str:
    """A strategy in words."""
    return {"layer_matched_random": "layer-matched random"}.get(strategy, strategy.replace("_", " "))


def arm_name(row: Row) -> str:
    """`top 5 %`, with what differs from silencing query heads by zero at all positions."""
    size = "" if row["frac"] is None or row["strategy"] == BASE else f" {row['frac'] * 100:.4g} %"
    band = re.match(r"band-([0-9.]+)-([0-9.]+)-", row["arm_id"])
    if band is not None:
        size = f" {float(band[1]) * 100:.4g} to {float(band[2]) * 100:.4g} %"
    return f"{spell(row['strategy'])}{size}{unusual(row)}"


def unusual(row: Row) -> str:
    """What differs from the usual way, in brackets; empty for none."""
    parts = ["heads that are kept"] if row["kind"] == "keep" else []
    usual = {"mode": ("zero", "hybrid"), "positions": ("all",)}
    parts += [row[name] for name, values in usual.items() if row[name] not in values]
    parts += [] if row["per"] == "query_head" else ["per kv_head"]
    parts += [] if row["ranking_scope"] == OVERALL else [f"ranked on {row['ranking_scope']}"]
    return f" [{', '.join(parts)}]" if parts else ""


def draws_of(accuracy: pl.DataFrame, arm_id: str) -> Iterator[tuple[str, pl.DataFrame]]:
    """Random draws that are held against an arm, by strategy."""
    draws = accuracy.filter(pl.col("control_of") == arm_id)
    for (strategy,), part in draws.group_by("strategy", maintain_order=True):
        yield str(strategy), part


def arm_rows(accuracy: pl.DataFrame) -> tuple[tuple[str, ...], ...]:
    """Over all samples but the control set: a row per arm, and under it one per kind of random draw."""
    overall = accuracy.filter(pl.col("scope") == OVERALL)
    rows = list[tuple[str, ...]]()
    for row in overall.filter(pl.col("control_of").is_null()).iter_rows(named=True):
        rows.append(_chosen(row))
        rows += [_drawn(strategy, part) for strategy, part in draws_of(overall, row["arm_id"])]
    return tuple(rows)


def domain_rows(
    accuracy: pl.DataFrame, arms: list[Row], *, name_of: Callable[[Row], str] = arm_name
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Columns and rows: a row per scope; for each arm its accuracy and difference, then the means of the draws that the
    arms of `top` are held against.
    """
    kinds: list[tuple[Row, str | None]] = [(arm, None) for arm in arms]
    for arm in arms:
        if arm["strategy"] == "top":
            kinds += [(arm, strategy) for strategy, _ in draws_of(_scope(accuracy, OVERALL), arm["arm_id"])]
    names = [name_of(arm) if strategy is None else f"{spell(strategy)}, mean" for arm, strategy in kinds]
    rows = list[tuple[str, ...]]()
    for scope in map(str, accuracy.get_column("scope").unique(maintain_order=True)):
        part = _scope(accuracy, scope)
        base = part.filter(pl.col("arm_id") == BASE).row(0, named=True)
        cells = [_cell(part, arm["arm_id"], strategy) for arm, strategy in kinds]
        title = {OVERALL: "all domains", CONTROL: "text-only control"}.get(scope, scope)
        rows.append((title, f"{base['num_samples']:,}", share(base["accuracy"]), *cells))
    return (*DOMAIN_COLUMNS, *names), tuple(rows)


def same_way(arms: pl.DataFrame, row: Row) -> pl.DataFrame:
    """Arms that touch heads in the way of `row`, chosen from the same ranking."""
    return arms.filter(pl.col("control_of").is_null(), *(pl.col(name) == row[name] for name in WAY))


def _scope(accuracy: pl.DataFrame, scope: str) -> pl.DataFrame:
    return accuracy.filter(pl.col("scope") == scope)


def cell(rows: pl.DataFrame) -> str:
    """Mean accuracy of some arms and, in brackets, their mean difference to the base."""
    accuracy, difference = (_mean(rows, name) for name in ("accuracy", "difference"))
    return ABSENT if accuracy is None else f"{share(accuracy)} ({signed(difference)})"


def _cell(part: pl.DataFrame, arm_id: str, strategy: str | None) -> str:
    if strategy is None:
        return cell(part.filter(pl.col("arm_id") == arm_id))
    return cell(part.filter(pl.col("control_of") == arm_id, pl.col("strategy") == strategy))


def _chosen(row: Row) -> tuple[str, ...]:
    return (
        arm_name(row),
        share(row["query_head_frac"]),
        share(row["kv_head_frac"]),
        share(row["accuracy"]),
        span(share(row["low"]), share(row["high"])),
        signed(row["difference"]),
        span(signed(row["diff_low"]), signed(row["diff_high"])),
        _p_value(row["mcnemar_p"]),
        _p_value(row["holm_p"]),
    )


def _drawn(strategy: str, draws: pl.DataFrame) -> tuple[str, ...]:
    """Means, with the smallest and largest draw where an arm has its interval."""
    accuracy, difference = (draws.get_column(name).drop_nulls().to_list() for name in ("accuracy", "difference"))
    return (
        f"↳ {spell(strategy)}, {counted(draws.height, 'draw')}",
        *(share(_mean(draws, name)) for name in ("query_head_frac", "kv_head_frac", "accuracy")),
        span(share(min(accuracy, default=None)), share(max(accuracy, default=None))),
        signed(_mean(draws, "difference")),
        span(signed(min(difference, default=None)), signed(max(difference, default=None))),
        ABSENT,
        ABSENT,
    )


def _mean(rows: pl.DataFrame, name: str) -> float | None:
    known = rows.get_column(name).drop_nulls().to_list()
    return sum(known) / len(known) if known else None


def share(value: float | None) -> str:
    """Percents with one decimal; null is a dash."""
    return ABSENT if value is None else f"{100 * value:.1f}"


def signed(value: float | None) -> str:
    """The same with its sign; zero has none."""
    if value is None:
        return ABSENT
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def span(low: str, high: str) -> str:
    """Both ends, or a dash when one is not known."""
    return ABSENT if ABSENT in (low, high) else f"{low} to {high}"


def _p_value(value: float | None) -> str:
    return ABSENT if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
