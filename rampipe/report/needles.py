"""The section of the needles: do image needles and text needles use the same heads?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from rampipe.heads.correlation import spearman
from rampipe.report import figures
from rampipe.report.drawn import Drawn, drawn
from rampipe.report.evidence_kinds import KINDS, Kind, KindMeans, kinds_of_domains
from rampipe.report.kind_scatter import SharedHeads, shared_heads
from rampipe.report.numbers import ABSENT, counted, number
from rampipe.report.ranked import Ranked

COLUMNS = ("head", "set", "mean on image needles", "mean on text needles")


@dataclass(frozen=True, slots=True)
class Needles:
    """`missing`: why there is none, or empty. rows: the heads of either set, one text per column."""

    missing: str = ""
    sentences: tuple[str, ...] = ()
    figures: tuple[Drawn, ...] = ()
    columns: tuple[str, ...] = COLUMNS
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def needles_section(samples: pl.DataFrame, ranked: Ranked | None, kinds: Mapping[Kind, KindMeans]) -> Needles:
    """Figure, counts and table, for a run with domains of both kinds."""
    if ranked is None:
        return Needles("No ranking yet, so no heads to compare: run `python -m jobs.rank RUN` first.")
    notes = _left_out(samples)
    absent = [kind for kind in KINDS if kind not in kinds]
    if absent:
        names = " and no ".join(f"domain of {kind} needles" for kind in absent)
        return Needles(f"Nothing to compare: this run has no {names}.", notes=notes)
    image, text = kinds["image"], kinds["text"]
    heads = shared_heads(image.grid, text.grid)
    figure = drawn(
        "needles",
        lambda theme: figures.shared(heads, metric=ranked.metric, theme=theme),
        alt=f"Mean {ranked.metric} of every head on text needles over image needles: "
        + ", ".join(f"{len(found)} heads {name}" for name, found in heads.sets.items()),
        caption="Marked: CoRe heads of image needles, of text needles, or of both. Heads below the dashed line look "
        "more at image needles, those above it more at text needles.",
    )
    return Needles(
        sentences=(_sentence(heads), f"Image needles: {_about(image)}. Text needles: {_about(text)}."),
        figures=(figure,),
        rows=_rows(heads),
        notes=notes,
    )


def _sentence(heads: SharedHeads) -> str:
    size, num_heads = len(heads.shared) + len(heads.image_only), heads.image.size
    agreement = spearman(heads.image.ravel().astype("float64"), heads.text.ravel().astype("float64"))
    by_chance = size * (len(heads.shared) + len(heads.text_only)) / num_heads
    return (
        f"{len(heads.shared)} of {size} CoRe heads of image needles are CoRe heads of text needles too (Jaccard "
        f"{_two(heads.jaccard)}); {len(heads.image_only)} serve images alone, {len(heads.text_only)} text alone. Two "
        f"random sets of this size would share {by_chance:.2g} heads on average. Rank correlation over all heads: "
        f"{_two(agreement)}."
    )


def _two(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def _about(kind: KindMeans) -> str:
    return f"{counted(kind.num_samples, 'sample')} of {', '.join(kind.domains)}"


def _rows(heads: SharedHeads) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (str(head), name, number(heads.image[head.layer, head.head]), number(heads.text[head.layer, head.head]))
        for name, found in heads.sets.items()
        for head in found
    )


def _left_out(samples: pl.DataFrame) -> tuple[str, ...]:
    """Domains that belong to neither kind, and why."""
    known = kinds_of_domains(samples)
    reasons = {
        0: "do not say what their evidence is: it fills its image, or was captured by an earlier version",
        2: "have evidence of both kinds",
    }
    found = {count: [name for name, kinds in known.items() if len(kinds) == count] for count in reasons}
    return tuple(
        f"Left out: {', '.join(names)}, whose samples {reasons[count]}." for count, names in found.items() if names
    )
