"""The section of the answers: what the model said before and after, for samples that nobody picked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from rampipe.heads.claims.claim import nearest_arm
from rampipe.heads.claims.fast import FULL_FRAC
from rampipe.heads.scopes import OVERALL
from rampipe.heads.verdict.outcomes import CONTROL
from rampipe.report.arm_rows import arm_name, same_way
from rampipe.report.asked import Asked, asked
from rampipe.report.numbers import ABSENT
from rampipe.report.silencing import STAGE as SILENCING
from rampipe.report.silencing import main_arms
from rampipe.report.sources import Sources, read_sources
from rampipe.report.speed import STAGE as SPEED
from rampipe.report.speed_panels import kept_name
from rampipe.report.style import shortened
from rampipe.tables.arms import BASE

Row = dict[str, Any]

MAX_DOMAINS = 12
MAX_CHARACTERS = 240


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the model: the arm, the stage that tried it and its column."""

    stage: str
    arm_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said; right: null when it was not judged."""

    text: str
    right: bool | None


@dataclass(frozen=True, slots=True)
class AnsweredSample:
    """One sample. asked: null where no table has it. stands_for: how many it is one of, in words; counts: right answers
    of its domain, a text per answer.
    """

    sample_id: str
    domain: str
    asked: Asked | None
    answers: tuple[Answer, ...]
    stands_for: str
    counts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """`missing`: why there are none, or empty. columns: a name per answer."""

    missing: str = ""
    columns: tuple[str, ...] = ()
    samples: tuple[AnsweredSample, ...] = ()
    chosen_by: str = ""
    notes: tuple[str, ...] = ()


def answers_section(sources: Sources) -> Answers:
    """Per domain the first sample by id whose right answer the top heads' silence takes away."""
    if sources.table(SILENCING, "accuracy") is None:
        return Answers("No answers to compare: run `python -m jobs.ablate RUN --config FILE`.")
    if SILENCING not in sources.answers:
        return Answers(
            "The answers themselves are not here: the folder of the ablation that was judged was not published with "
            "the tables. Copy `ablation/` of the run, or run `python -m jobs.ablate RUN --config FILE` again."
        )
    variants = tuple(_variants(sources))
    rows = _rows(sources, variants)
    base = rows[0].filter(pl.col("prediction").is_not_null())
    if base.is_empty():
        return Answers("Nothing was predicted in the ablation: capture.predict_tokens was 0.")
    domains = _by_domain(base)
    chosen = [_sample(name, part, variants, rows) for name, part in domains[:MAX_DOMAINS]]
    known = asked(sources, [sample.sample_id for sample in chosen])
    samples = tuple(replace(sample, asked=known.get(sample.sample_id)) for sample in chosen)
    return Answers(
        columns=tuple(variant.name for variant in variants),
        samples=samples,
        chosen_by=_chosen_by(variants),
        notes=(*_stale(sources), *_notes(samples, len(domains), has_speed=SPEED in sources.answers)),
    )


def shown_samples(run_path: str) -> list[str]:
    """Ids of the samples whose answers the section shows: those worth drawing."""
    return [sample.sample_id for sample in answers_section(read_sources(run_path)).samples]


def _variants(sources: Sources) -> Iterator[Variant]:
    """The base, the silenced top and bottom heads, and the kept top heads: those that were tried, in this order."""
    yield Variant(SILENCING, BASE, "as it is")
    silenced = sources.table(SILENCING, "accuracy")
    for row in main_arms(silenced) if silenced is not None else ():
        if row["strategy"] in ("top", "bottom"):
            yield Variant(SILENCING, row["arm_id"], f"without {arm_name(row)}")
    kept = sources.table(SPEED, "accuracy")
    if kept is None or SPEED not in sources.answers:
        return
    overall = kept.filter(pl.col("scope") == OVERALL)
    top = nearest_arm(overall, FULL_FRAC)
    if top is None:
        return
    same = same_way(overall, top).filter(pl.col("frac") == top["frac"])
    for row in same.filter(pl.col("strategy").is_in(["top", "bottom"])).iter_rows(named=True):
        yield Variant(SPEED, row["arm_id"], f"only {kept_name(row)} full")


def _rows(sources: Sources, variants: Sequence[Variant]) -> list[pl.DataFrame]:
    """Outcomes of each variant, sorted by sample."""
    found = dict[str, pl.DataFrame]()
    for stage in {variant.stage for variant in variants}:
        arm_ids = [variant.arm_id for variant in variants if variant.stage == stage]
        outcomes = sources.answers[stage].outcomes.filter(pl.col("arm_id").is_in(arm_ids))
        found[stage] = outcomes.sort("sample_id").collect()
    return [found[variant.stage].filter(pl.col("arm_id") == variant.arm_id) for variant in variants]


def _by_domain(base: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Domains by name, then the control set as one."""
    evaluated = base.filter(~pl.col("control")).sort("domain", "sample_id")
    parts = [(str(domain), part) for (domain,), part in evaluated.group_by("domain", maintain_order=True)]
    control = base.filter(pl.col("control"))
    return [*parts, *([(CONTROL, control)] if control.height else [])]


def _sample(
    domain: str,
    base: pl.DataFrame,
    variants: Sequence[Variant],
    rows: Sequence[pl.DataFrame],
) -> AnsweredSample:
    right = base.filter(pl.col("correct")).get_column("sample_id")
    first = base.item(0, "sample_id") if right.is_empty() else right.item(0)
    stands_for = f"none of {base.height:,} is answered rightly as it is"
    target = next((place for place, arm in enumerate(variants) if place and arm.stage == SILENCING), None)
    if right.len() and target is not None:
        lost = rows[target].filter(pl.col("sample_id").is_in(right.to_list()), ~pl.col("correct"))
        first = lost.item(0, "sample_id") if lost.height else first
        stands_for = f"{lost.height:,} of {right.len():,} right answers are lost {variants[target].name}"
        stands_for += "" if lost.height else "; shown is the first right one"
    ids = base.get_column("sample_id").to_list()
    return AnsweredSample(
        sample_id=first,
        domain="text-only control" if domain == CONTROL else domain,
        asked=None,
        answers=tuple(_answer(part.filter(pl.col("sample_id") == first)) for part in rows),
        stands_for=stands_for,
        counts=tuple(_count(part.filter(pl.col("sample_id").is_in(ids))) for part in rows),
    )


def _count(rows: pl.DataFrame) -> str:
    judged = rows.get_column("correct").drop_nulls()
    return f"{judged.sum():,} of {judged.len():,} right" if judged.len() else ABSENT


def _answer(row: pl.DataFrame) -> Answer:
    if row.is_empty():
        return Answer("not asked", None)
    text = row.item(0, "prediction")
    if text is None:
        return Answer("not predicted", None)
    return Answer(shortened(text.strip(), MAX_CHARACTERS) or "(nothing)", row.item(0, "correct"))


def _chosen_by(variants: Sequence[Variant]) -> str:
    target = next((arm.name for arm in variants[1:] if arm.stage == SILENCING), None)
    if target is None:
        return "Of each domain the first sample by id that is answered rightly."
    return (
        f"Nobody picked these: of each domain, the first sample by id that is answered rightly as the model is, and "
        f"wrongly {target}. Under each answer: how many samples of the domain are answered rightly so."
    )


def _stale(sources: Sources) -> Iterator[str]:
    for stage, job in ((SILENCING, "ablate"), (SPEED, "speed")):
        if stage in sources.answers and sources.answers_are_stale(stage):
            yield (
                f"The tables of {stage} were judged from other answers than are shown here. Run "
                f"`python -m jobs.{job} RUN --config FILE` again."
            )


def _notes(samples: Sequence[AnsweredSample], num_domains: int, *, has_speed: bool) -> Iterator[str]:
    if num_domains > len(samples):
        yield f"Shown are the first {len(samples)} of {num_domains} domains by name."
    if any(sample.asked is None for sample in samples):
        yield (
            "Outcomes hold answers, not questions or images: a sample that was not drawn is named by its id, under "
            "which the dataset has both; `python -m jobs.pipeline` draws them. A right answer matches the reference."
        )
    if not has_speed:
        yield (
            "No answers with full attention for the top heads alone: set speed.split and run "
            "`python -m jobs.speed RUN --config FILE`."
        )
