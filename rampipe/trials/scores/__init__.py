"""Scores: one rule a file, whether and how far a prediction is right. Adding one is a file and a line here."""

from __future__ import annotations

from rampipe.config import DataConfig
from rampipe.data import SOURCES
from rampipe.errors import ConfigError
from rampipe.trials.scores import anls, box_iou, choice, containment, exact_match
from rampipe.trials.scores.rule import Rule, Scored
from rampipe.types import Sample

SCORES_VERSION = 1
"""Raised by hand when a definition, and so a number, changes: part of the fingerprint of a run that predicts."""

SCORES: tuple[Rule, ...] = (
    exact_match,
    containment,
    anls,
    choice,
    box_iou,
)

__all__ = [
    "SCORES",
    "SCORES_VERSION",
    "Rule",
    "Scored",
    "resolve_metric",
    "score_answer",
    "score_identity",
    "score_sample",
]


def score_answer(prediction: str, sample: Sample, *, metric: str) -> Scored:
    """The verdict of one rule. Raises ConfigError when there is no rule of that id."""
    known = {rule.ID: rule for rule in SCORES}
    if metric not in known:
        raise ConfigError(f"data.score = {metric!r}: no such rule: known: {['auto', *known]}")
    score = known[metric].score(prediction, sample)
    return Scored(None, None) if score is None else Scored(score >= known[metric].CORRECT_FROM, score)


def resolve_metric(config_value: str, source_default: str, sample: Sample) -> str:
    """Id of the rule for one sample: what the configuration names, or for `auto` what fits the sample.

    `auto`: `choice` where there are choices, else what the dataset's source names; but where that is `anls`, an answer
    without a letter (number, date, page) is compared exactly.
    """
    if config_value != "auto":
        return config_value
    if sample.choices:
        return choice.ID
    if source_default == anls.ID and not any(char.isalpha() for answer in sample.answers for char in answer):
        return exact_match.ID
    return source_default


def score_sample(prediction: str, sample: Sample, *, data: DataConfig) -> Scored:
    """The verdict of the rule that `data.score` and the dataset's source give for the sample."""
    return score_answer(prediction, sample, metric=resolve_metric(data.score, _source_default(data), sample))


def score_identity(data: DataConfig) -> dict[str, str | int]:
    """What decides the verdicts of a run: part of its fingerprint."""
    named: dict[str, str | int] = {"rule": data.score, "version": SCORES_VERSION}
    return {**named, "source_default": _source_default(data)} if data.score == "auto" else named


def _source_default(data: DataConfig) -> str:
    return next(source.SCORE for source in SOURCES if source.name == data.source)
