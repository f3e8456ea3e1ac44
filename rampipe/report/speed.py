"""The section of speed: what heads with full attention gain over dense attention, and what they keep of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import polars as pl

from rampipe.heads.claims.claim import nearest_arm
from rampipe.heads.claims.fast import FULL_FRAC, fast
from rampipe.heads.scopes import OVERALL
from rampipe.heads.speed.sentences import speed_lines
from rampipe.report import figures
from rampipe.report.arm_rows import domain_rows, same_way
from rampipe.report.drawn import Drawn, drawn
from rampipe.report.numbers import counted
from rampipe.report.sources import Sources
from rampipe.report.speed_curve import SpeedPanel
from rampipe.report.speed_panels import QUANTITIES, Quantity, kept_name, speed_panels
from rampipe.report.speed_rows import SPEED_COLUMNS, Texts, speed_rows
from rampipe.report.style import Theme
from rampipe.tables.arms import BASE

STAGE = "speed"
MAX_PANELS = 6
MISSING = (
    "Nothing was timed: no arm kept full attention for some heads alone yet. Set speed.split in the configuration, "
    "then run `python -m jobs.speed RUN --config FILE`."
)


@dataclass(frozen=True, slots=True)
class SpeedTable:
    """All arms at one length of the context."""

    title: str
    rows: tuple[Texts, ...]


@dataclass(frozen=True, slots=True)
class Speed:
    """`missing`: why there is none, or empty. claim: the sentence that decides; verdict: one per arm and length."""

    missing: str = ""
    claim: str = ""
    verdict: tuple[str, ...] = ()
    figures: tuple[Drawn, ...] = ()
    columns: Texts = SPEED_COLUMNS
    tables: tuple[SpeedTable, ...] = ()
    domain_columns: Texts = ()
    domain_rows: tuple[Texts, ...] = ()
    notes: tuple[str, ...] = ()


def speed_section(sources: Sources) -> Speed:
    """Sentences, figures and tables of the speed stage."""
    speed, accuracy, arms = (sources.table(STAGE, name) for name in ("speed", "accuracy", "arms"))
    if speed is None or accuracy is None or arms is None:
        return Speed(MISSING)
    if speed.is_empty():
        return Speed("The table of speed is empty: every arm failed. See the errors of speed/timings.")
    shown, notes = list[Drawn](), sources.stage_notes(STAGE)
    for quantity in QUANTITIES:
        panels = speed_panels(speed, accuracy, quantity)
        if panels:
            shown.append(_figure(panels[-MAX_PANELS:], quantity))
        if len(panels) > MAX_PANELS:
            notes.append(
                f"{quantity.title}: the figure shows the longest {MAX_PANELS} of {len(panels)} lengths; the tables all."
            )
    lacking = untimed(speed, arms)
    if lacking:
        named = ", ".join(f"{arm_id} at {tokens:,} tokens" for arm_id, tokens in lacking[:5])
        notes.append(f"Not timed: {counted(len(lacking), 'pair')} of arm and length, first {named}. Run speed again.")
    if not shown:
        notes.append("No figure: no answer was judged under these arms.")
    if speed.get_column("peak_ratio").null_count() == speed.height:
        notes.append("Peak memory was not measured: it is on CUDA devices only.")
    columns, rows = _domains(accuracy)
    lengths = speed.get_column("context_tokens").unique().sort().to_list()
    devices = speed.get_column("device").unique().sort().to_list()
    on = f" on {devices[0]}" if len(devices) == 1 else ""
    tables = (
        SpeedTable(f"All arms at {tokens:,} tokens{on}", speed_rows(speed, accuracy, context_tokens=tokens))
        for tokens in lengths
    )
    return Speed(
        claim=str(fast(speed, accuracy)),
        verdict=tuple(speed_lines(speed, accuracy, untimed=lacking)),
        figures=tuple(shown),
        tables=tuple(tables),
        domain_columns=columns,
        domain_rows=rows,
        notes=tuple(notes),
    )


def untimed(speed: pl.DataFrame, arms: pl.DataFrame) -> list[tuple[str, int]]:
    """Pairs of arm and length that the tables lack: of arms that are no draw, and of draws with another length."""
    lengths = speed.get_column("context_tokens").unique().to_list()
    found = set(speed.select("arm_id", "context_tokens").iter_rows())
    wanted = arms.filter(
        pl.col("strategy") != BASE,
        pl.col("seed").is_null() | pl.col("arm_id").is_in(speed.get_column("arm_id").to_list()),
    )
    pairs = {(str(arm_id), int(tokens)) for arm_id in wanted.get_column("arm_id") for tokens in lengths}
    return sorted(pairs - found)


def _figure(panels: list[SpeedPanel], quantity: Quantity) -> Drawn:
    draw: Callable[[Theme], bytes] = partial(_draw, panels, quantity)
    names = dict.fromkeys(point.series for panel in panels for point in panel.points)
    ranges = {
        "cache": "The cache is counted in bytes, which the shapes decide.",
        "peak": "Medians of the peaks.",
    }.get(quantity.name, "Bars across: from the slowest to the fastest repetition, each beside a dense one.")
    caption = (
        f"To the right is cheaper, up is better: the star is dense attention. {ranges} Bars upright and the grey band: "
        "Wilson intervals, on samples whose prompts have their own lengths. Labels: share of heads with full attention."
    )
    alt = f"Share of right answers over {quantity.label}, for dense attention, {', '.join(names)}"
    return drawn(f"speed-{quantity.name}", draw, alt=alt, caption=caption)


def _draw(panels: list[SpeedPanel], quantity: Quantity, theme: Theme) -> bytes:
    return figures.speed(panels, label=quantity.label, theme=theme)


def _domains(accuracy: pl.DataFrame) -> tuple[Texts, tuple[Texts, ...]]:
    """Accuracy per domain with the heads kept that the claim is about, and what it is held against."""
    overall = accuracy.filter(pl.col("scope") == OVERALL)
    top = nearest_arm(overall, FULL_FRAC)
    if top is None:
        return (), ()
    kept = pl.col("query_head_frac").is_between(0.0, 1.0, closed="none")
    chosen = same_way(overall.filter(kept), top).filter(
        pl.col("frac") == top["frac"], pl.col("strategy").is_in(["top", "bottom"])
    )
    nothing = overall.filter(pl.col("num_heads") == 0, pl.col("arm_id") != BASE)
    return domain_rows(accuracy, [*chosen.to_dicts(), *nothing.head(1).to_dicts()], name_of=kept_name)
