"""The section of the ablation: what happens to the answers when the ranked heads are silenced, or any others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from rampipe.heads.claims.causal import causal
from rampipe.heads.scopes import OVERALL
from rampipe.heads.verdict.sentences import verdict_lines
from rampipe.report import figures
from rampipe.report.arm_rows import ARM_COLUMNS, WAY, arm_rows, domain_rows, draws_of, same_way, spell, unusual
from rampipe.report.bottoms import Bottoms, bottoms
from rampipe.report.drawn import Drawn, drawn
from rampipe.report.fraction_curve import FractionLine, FractionPanel
from rampipe.report.sources import Sources
from rampipe.report.transfer import transfer_rows
from rampipe.tables.arms import BASE, Arm, ArmPlan
from rampipe.types import HeadId

STAGE = "ablation"
MAX_PANELS = 6
DOMAIN_FRAC = 0.05
"""The size that the table of domains shows, or the nearest that was run."""
_PATHS = ("top", "bottom", "bottom_idle")


@dataclass(frozen=True, slots=True)
class Silencing:
    """`missing`: why there is none, or empty. claim: the sentence that decides; verdict: one per arm. rows: of the
    first way to silence heads, other_rows of all others, one text per column; notes say what is not shown.
    """

    missing: str = ""
    claim: str = ""
    verdict: tuple[str, ...] = ()
    figures: tuple[Drawn, ...] = ()
    columns: tuple[str, ...] = ARM_COLUMNS
    rows: tuple[tuple[str, ...], ...] = ()
    other_rows: tuple[tuple[str, ...], ...] = ()
    domain_columns: tuple[str, ...] = ()
    domain_rows: tuple[tuple[str, ...], ...] = ()
    bottoms: Bottoms = field(default_factory=Bottoms)
    transfer_columns: tuple[str, ...] = ()
    transfer_rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def silencing_section(sources: Sources) -> Silencing:
    """Sentences, figure and tables of the ablation stage."""
    accuracy, arms = sources.table(STAGE, "accuracy"), sources.table(STAGE, "arms")
    if accuracy is None or arms is None:
        return Silencing("No ablation: no head was silenced yet. Run `python -m jobs.ablate RUN --config FILE`.")
    confidence = confidence_of(accuracy)
    plan = _plan(arms, sources)
    lines = verdict_lines(accuracy, plan, confidence=0.95 if confidence is None else confidence)
    panels = fraction_panels(accuracy)
    notes = () if panels else ("No figure: nothing was predicted, or no head was silenced.",)
    missing = [line for line in lines if line.startswith("PARTIAL")]
    notes = (*sources.stage_notes(STAGE), *missing, *notes)
    if len(panels) > MAX_PANELS:
        notes = (
            *notes,
            f"The figure shows the first {MAX_PANELS} of {len(panels)} ways to silence heads; the table all.",
        )
    main = main_arms(accuracy)
    columns, rows = domain_rows(accuracy, main)
    transfer_columns, transfers = transfer_rows(accuracy, main)
    is_main = pl.all_horizontal(pl.col(name) == main[0][name] for name in WAY) if main else pl.lit(value=True)
    claimed_frac = float(sources.ranking_from.get("rank", {}).get("k_frac", DOMAIN_FRAC))
    return Silencing(
        claim=str(causal(accuracy, k_frac=claimed_frac)),
        verdict=tuple(lines),
        figures=_figure(panels[:MAX_PANELS], confidence),
        rows=arm_rows(accuracy.filter(is_main | (pl.col("arm_id") == BASE))),
        other_rows=arm_rows(accuracy.filter(~is_main & (pl.col("arm_id") != BASE))),
        domain_columns=columns,
        domain_rows=rows,
        bottoms=bottoms(accuracy, main, arms, sources.table("screen", "accuracy")),
        transfer_columns=transfer_columns,
        transfer_rows=transfers,
        notes=notes,
    )


def confidence_of(accuracy: pl.DataFrame) -> float | None:
    """Of the intervals, read from a Wilson interval: its ends x solve (share - x)^2 = z^2 x (1 - x) / n.

    Null when nothing was judged; then there is no interval at all.
    """
    judged = pl.col("num_samples") - pl.col("num_missing") - pl.col("num_unpredicted")
    rows = accuracy.filter(pl.col("accuracy").is_not_null())
    if rows.is_empty():
        return None
    number, share, low, high = rows.select(judged, "accuracy", "low", "high").row(0)
    end = high if share < 1 else low
    z = abs(end - share) / math.sqrt(end * (1 - end) / number)
    return round(2 * NormalDist().cdf(z) - 1, 9)


def fraction_panels(accuracy: pl.DataFrame) -> list[FractionPanel]:
    """One per way to silence heads, in the order of the arms, over all samples but the control set."""
    overall = accuracy.filter(pl.col("scope") == OVERALL)
    base = overall.filter(pl.col("arm_id") == BASE).select("accuracy", "low", "high").row(0)
    known = overall.filter(pl.col("accuracy").is_not_null())
    chosen = known.filter(pl.col("control_of").is_null(), pl.col("arm_id") != BASE, pl.col("kind") == "ablate")
    if None in base or chosen.is_empty():
        return []
    panels = list[FractionPanel]()
    for _, part in chosen.group_by(WAY, maintain_order=True):
        first = part.row(0, named=True)
        title = "Accuracy with heads silenced" + unusual(first)
        panels.append(FractionPanel(title, tuple(_lines(part, known)), base))
    return panels


def _lines(part: pl.DataFrame, known: pl.DataFrame) -> list[FractionLine]:
    lines = list[FractionLine]()
    for (strategy,), arms in part.group_by("strategy", maintain_order=True):
        values = arms.sort("query_head_frac").select("query_head_frac", "accuracy", "low", "high").to_numpy()
        lines.append(_line(str(strategy), values, is_band=False, is_path=strategy in _PATHS))
    named = set[str]()
    for target in sorted(part.get_column("strategy").unique(maintain_order=True), key=lambda name: name != "top"):
        for strategy, values in _spread(part.filter(pl.col("strategy") == target), known).items():
            drawn_line = _line(strategy, values, is_band=True, is_path=target in _PATHS)
            lines.append(replace(drawn_line, name="") if strategy in named else drawn_line)
            named.add(strategy)
    return lines


def _spread(targets: pl.DataFrame, known: pl.DataFrame) -> dict[str, np.ndarray]:
    """Share, mean, smallest and largest accuracy of the draws held against each target, by kind of draw."""
    spread: dict[str, list[list[float]]] = {}
    for arm_id in targets.sort("query_head_frac").get_column("arm_id"):
        for strategy, draws in draws_of(known, arm_id):
            reached = draws.get_column("accuracy").to_numpy()
            shares = draws.get_column("query_head_frac").to_numpy()
            row = [float(value) for value in (shares.mean(), reached.mean(), reached.min(), reached.max())]
            spread.setdefault(strategy, []).append(row)
    return {strategy: np.array(values) for strategy, values in spread.items()}


def _line(strategy: str, values: np.ndarray, *, is_band: bool, is_path: bool) -> FractionLine:
    name = f"{spell(strategy)}: mean and range" if is_band else spell(strategy)
    return FractionLine(name, strategy, *values.T, is_band=is_band, is_path=is_path)


def _figure(panels: list[FractionPanel], confidence: float | None) -> tuple[Drawn, ...]:
    if not panels or confidence is None:
        return ()
    caption = (
        f"Bars and the grey band: {confidence * 100:.4g} % Wilson intervals. Coloured bands: from the worst to the "
        "best random draw of as many heads, none of them among the top heads; layer-matched draws take as many in "
        "every layer. Hollow: draws held against heads that were chosen otherwise."
    )
    alt = "Share of right answers over the share of query heads silenced, for " + ", ".join(
        line.name for line in panels[0].lines
    )
    return (drawn("silencing", lambda theme: figures.fractions(panels, theme=theme), alt=alt, caption=caption),)


def main_arms(accuracy: pl.DataFrame) -> list[dict[str, Any]]:
    """Arms of the first way: top and bottom ones at the size nearest to DOMAIN_FRAC, then those without such a size."""
    arms = accuracy.filter(
        pl.col("scope") == OVERALL, pl.col("control_of").is_null(), pl.col("num_heads") > 0, pl.col("kind") == "ablate"
    )
    sized = arms.filter(pl.col("strategy").is_in(_PATHS), pl.col("frac").is_not_null())
    if sized.is_empty():
        return same_way(arms, arms.row(0, named=True)).to_dicts() if arms.height else []
    same = same_way(arms, sized.row(0, named=True))
    is_path = pl.col("strategy").is_in(_PATHS)
    nearest = min(same.filter(is_path).get_column("frac"), key=lambda frac: abs(frac - DOMAIN_FRAC))
    return [*same.filter(is_path, pl.col("frac") == nearest).to_dicts(), *same.filter(~is_path).to_dicts()]


def _plan(arms: pl.DataFrame, sources: Sources) -> ArmPlan:
    """The plan as far as its table says it: sentences need the arms alone."""
    rows = list[Arm]()
    for row in arms.iter_rows(named=True):
        heads = tuple(HeadId(head["layer"], head["head"]) for head in row.pop("heads"))
        rows.append(Arm(**row, heads=heads))
    return ArmPlan(
        run_id=sources.run.run_id,
        metric=str(sources.ranking_from.get("rank", {}).get("metric", "")),
        ranking_sha256="",
        num_heads=sources.run.num_heads,
        kv_heads=None,
        settings={},
        arms=tuple(rows),
    )
