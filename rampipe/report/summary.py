"""The head and the foot of the page: what was measured, key numbers, whether it is complete, how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from rampipe.heads.accuracy import accuracy
from rampipe.report.numbers import ABSENT, counted, number, percent
from rampipe.report.ranked import Ranked
from rampipe.report.sources import Sources
from rampipe.report.stability import overall_reliability


@dataclass(frozen=True, slots=True)
class Tile:
    """One key number."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of `how this was made`; `mono` for identifiers."""

    name: str
    value: str
    mono: bool = False


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Samples that failed in one way."""

    stage: str
    code: str
    num_samples: int
    message: str


def warnings(sources: Sources) -> list[str]:
    """Why the numbers below are not the last word: one sentence each; none for a finished run."""
    account, found = sources.balance, list[str]()
    if not account.complete:
        missing = account.num_samples - account.num_ok - account.num_errors
        found.append(
            f"This run is partial: {missing:,} of {counted(account.num_samples, 'planned sample')} are missing. "
            f"{'; '.join(account.problems[:5])}. All numbers are about the rest. The same capture command goes on "
            "where it stopped; then rank and report again."
        )
    elif not sources.finished:
        found.append("This run is partial: it has no _SUCCESS.json that fits its files. Run the capture command again.")
    elif sources.ranking_from.get("partial"):
        found.append("The ranking was made while the run was partial. Run `python -m jobs.rank RUN` again.")
    if sources.ranking_is_stale:
        found.append("The ranking is of other rows than are committed now. Run `python -m jobs.rank RUN` again.")
    return found


def tiles(sources: Sources, ranked: Ranked | None) -> list[Tile]:
    """What to know at a glance. What is not there yet is a dash with the command that makes it."""
    reliability, reliability_detail = overall_reliability(sources)
    return [
        _half_tile(ranked),
        _first_tile(ranked),
        Tile("samples measured", f"{sources.balance.num_ok:,}", _samples_detail(sources)),
        Tile("split-half reliability", reliability, reliability_detail),
        _accuracy_tile(sources.samples),
    ]


def error_rows(errors: pl.DataFrame) -> list[ErrorRow]:
    """Counts by stage and code, most frequent first, with the message of the first by key."""
    grouped = (
        errors.sort("shard", "row")
        .group_by("stage", "code", maintain_order=True)
        .agg(pl.len().alias("num_samples"), pl.col("message").first())
        .sort("num_samples", "stage", "code", descending=[True, False, False])
    )
    return [ErrorRow(**row) for row in grouped.select("stage", "code", "num_samples", "message").iter_rows(named=True)]


def facts(sources: Sources) -> list[Fact]:
    """Identity, versions and all inputs of the run."""
    run = sources.run
    devices = sorted({record.device for record in sources.commits.values()})
    return [
        Fact("run", run.run_id, mono=True),
        Fact("fingerprint", run.fingerprint, mono=True),
        Fact("created", run.created),
        *([] if run.stopped is None else [Fact("ended early", run.stopped.sentence)]),
        Fact("devices", ", ".join(devices) or ABSENT),
        Fact("versions at start", ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))),
        *(Fact(key, value, mono=True) for key, value in _flat(sources.ranking_from.get("rank", {}), "rank.")),
        *(Fact(key, value, mono=True) for key, value in _flat(run.inputs)),
    ]


def _half_tile(ranked: Ranked | None) -> Tile:
    label = "heads that hold half the positive mass"
    if ranked is None:
        return Tile(label, ABSENT, "not ranked yet: python -m jobs.rank RUN")
    curve = ranked.overall.curve
    if curve is None:
        return Tile(label, ABSENT, "no head has a positive mean")
    return Tile(label, percent(curve.half_frac), f"{curve.num_heads_half:,} of {counted(curve.num_heads, 'head')}")


def _first_tile(ranked: Ranked | None) -> Tile:
    first = ranked.overall.first if ranked else None
    if ranked is None or first is None:
        return Tile("first head", ABSENT, "no head has a rank")
    return Tile("first head (layer.head)", str(first[0]), f"mean {ranked.metric} {number(first[1])}")


def _samples_detail(sources: Sources) -> str:
    account = sources.balance
    return f"of {account.num_samples:,} planned; {counted(account.num_errors, 'error')}"


def _accuracy_tile(samples: pl.DataFrame) -> Tile:
    label = "answered correctly"
    shares = accuracy(samples.lazy()).filter(pl.col("accuracy").is_not_null()).select("scope", "accuracy")
    if shares.is_empty():
        return Tile(label, ABSENT, "no predictions: capture.predict_tokens was 0")
    (_, overall), *domains = shares.iter_rows()
    detail = ", ".join(f"{domain} {share:.0%}" for domain, share in domains[:4])
    return Tile(label, percent(overall), detail + (f", {len(domains) - 4} more below" if len(domains) > 4 else ""))


def _flat(inputs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested inputs as dotted keys; long lists by their length."""
    for key, value in sorted(inputs.items()):
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and len(value) > 8:
            yield name, f"{counted(len(value), 'value')} (see run.json)"
        else:
            text = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
            yield name, text if len(text) <= 300 else f"{text[:299]}…"
