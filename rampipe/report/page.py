"""All tables of a run to one self-contained page, with its figures as PNG files beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from rampipe.errors import StorageError
from rampipe.report import figures, summary
from rampipe.report.agreement import agreement_section
from rampipe.report.answers import answers_section
from rampipe.report.depth import depth_section
from rampipe.report.domains import domains_section
from rampipe.report.drawn import Drawn, drawn
from rampipe.report.evidence_kinds import kind_means
from rampipe.report.examples import examples_section
from rampipe.report.glossary import GLOSSARY
from rampipe.report.needles import needles_section
from rampipe.report.ranked import Ranked, ranked_scopes
from rampipe.report.silencing import silencing_section
from rampipe.report.sources import Sources, rampipe_version, read_sources
from rampipe.report.speed import speed_section
from rampipe.report.stability import stability_section
from rampipe.report.style import LIGHT
from rampipe.report.top_heads import TopHeads, top_heads
from rampipe.tables.storage import Storage

PAGE_PATH = "report/index.html"
SUCCESS_PATH = "report/_SUCCESS.json"
NOT_RANKED = "No ranking: ranking/ranking.parquet was not made. Run `python -m jobs.rank RUN`, then report again."
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Where:
    """The section of the heatmap and the curve; `missing`: why there is none, or empty."""

    missing: str = ""
    figures: tuple[Drawn, ...] = ()


def write_report(run_path: str) -> str:
    """Write `report/index.html` and the PNG files into a run, unless they are there and made from the same tables.

    run_path: folder or object-store prefix of a run. Returns the path or URL of the page. Tables that are not made
    yet are named on the page. Raises StorageError when there is no run or a table is damaged, DataError when a table
    has another schema.
    """
    sources = read_sources(run_path)
    storage = sources.run.storage
    page_place = f"{storage.uri.rstrip('/')}/{PAGE_PATH}"
    made_from = sources.digest()
    if _is_current(storage, made_from):
        return page_place
    html, images = render(sources)
    files = {PAGE_PATH: html.encode(), **images}
    record = {
        "made_from": made_from,
        "files": {path: hashlib.sha256(data).hexdigest() for path, data in sorted(files.items())},
    }
    # The record goes away first and comes last: whoever is interrupted leaves no record of files that are mixed.
    storage.delete(SUCCESS_PATH)
    for path, data in files.items():
        storage.replace(path, data)
    for path in storage.list("report"):
        if path.endswith(".png") and path not in files:
            storage.delete(path)
    storage.replace(SUCCESS_PATH, json.dumps(record, indent=2).encode() + b"\n")
    return page_place


def render(sources: Sources) -> tuple[str, dict[str, bytes]]:
    """The page, and the PNG files to publish beside it, by path."""
    ranked = _ranked(sources)
    where = _where(sources, ranked)
    domains = domains_section(sources, ranked)
    kinds = kind_means(sources.samples, ranked) if ranked else {}
    depth, needles = depth_section(ranked, kinds), needles_section(sources.samples, ranked, kinds)
    silencing, speed, examples = silencing_section(sources), speed_section(sources), examples_section(sources)
    answers = answers_section(sources)
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            version=rampipe_version(),
            css=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),  # ours # noqa: S704 # nosec B704
            header=_header(sources, ranked),
            warnings=summary.warnings(sources),
            tiles=summary.tiles(sources, ranked),
            where=where,
            depth=depth,
            top=_top(sources, ranked),
            domains=domains,
            needles=needles,
            stability=stability_section(sources),
            agreement=agreement_section(sources),
            silencing=silencing,
            speed=speed,
            answers=answers,
            examples=examples,
            errors={"missing": "" if sources.commits else domains.missing, "rows": summary.error_rows(sources.errors)},
            facts=summary.facts(sources),
            glossary=GLOSSARY,
        )
    )
    drawn_by = (where, depth, domains, needles, silencing, speed)
    shown = [figure for section in drawn_by for figure in section.figures]
    shown += [figure for sample in examples.samples for figure in sample.figures]
    shown += [sample.asked.picture for sample in answers.samples if sample.asked and sample.asked.picture]
    return html, {f"report/{figure.name}.png": figure.png for figure in shown} | _headline(sources, ranked)


def _environment() -> Environment:
    """Autoescape is on: sample ids, questions, domains and messages come from data that anyone may have written."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    return environment


def prose(text: str) -> Markup:
    """A sentence whose `commands` are set as code, everything in it escaped."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def _is_current(storage: Storage, made_from: str) -> bool:
    """Whether the report was made from these tables and all its files are as they were written."""
    if storage.size(SUCCESS_PATH) is None:
        return False
    try:
        record = json.loads(storage.read(SUCCESS_PATH))
        return record["made_from"] == made_from and all(
            hashlib.sha256(storage.read(path)).hexdigest() == digest for path, digest in record["files"].items()
        )
    except (ValueError, KeyError, TypeError, AttributeError, StorageError):
        return False


def _ranked(sources: Sources) -> Ranked | None:
    ranking, concentration = sources.table("ranking", "ranking"), sources.table("ranking", "concentration")
    return None if ranking is None or concentration is None else ranked_scopes(ranking, concentration)


def _header(sources: Sources, ranked: Ranked | None) -> dict[str, Any]:
    about = sources.run.inputs["run"]
    return {
        "model": about["model"],
        "dataset": about["dataset"],
        "run_id": sources.run.run_id,
        "metric": ranked.metric if ranked else "–",
        "definition": ranked.definition if ranked else "not ranked yet.",
    }


def _where(sources: Sources, ranked: Ranked | None) -> Where:
    if ranked is None:
        return Where(NOT_RANKED)
    grid, metric = ranked.overall.grid, ranked.metric
    num_layers, num_heads = grid.values.shape
    heat = drawn(
        "heatmap",
        lambda theme: figures.heatmap(grid, metric=metric, theme=theme),
        alt=f"Heatmap of mean {metric}: {num_layers} layers by {num_heads} heads",
        caption=f"Mean {metric} over {sources.balance.num_ok:,} samples. Outlined: CoRe heads. Grey: no value.",
    )
    curve = ranked.overall.curve
    if curve is None:
        return Where("", (heat,))
    sorted_curve = drawn(
        "curve",
        lambda theme: figures.concentration(curve, metric=metric, theme=theme),
        alt=f"{curve.num_heads_half} of {curve.num_heads} heads hold half of the positive mass",
        caption="The steeper the curve, the fewer heads do the retrieval. Dashed: all heads equal.",
    )
    return Where("", (heat, sorted_curve))


def _top(sources: Sources, ranked: Ranked | None) -> TopHeads:
    if ranked is None:
        return TopHeads(NOT_RANKED)
    return top_heads(ranked.overall, confidence="percentiles of a bootstrap over contexts")


def _headline(sources: Sources, ranked: Ranked | None) -> dict[str, bytes]:
    """The picture of a README by path: published beside the page, not shown on it."""
    curve = ranked.overall.curve if ranked else None
    if ranked is None or curve is None:
        return {}
    about = sources.run.inputs["run"]
    title = f"{about['model']} on {about['dataset']}: {curve.half_frac:.1%} of heads hold half the positive mass"
    png = figures.headline(ranked.overall.grid, curve, metric=ranked.metric, title=title, theme=LIGHT)
    return {"report/headline.png": png}
