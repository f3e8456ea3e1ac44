"""A few samples with the attention of chosen heads over their images: `<run>/examples/examples.parquet`.

A handful of samples on one replica, made once after the ranking: in the driver's process where replicas need no GPU,
else where a replica would live, for a driver often sits on a small machine without one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.placement import replica_place
from rampipe.engine.plan import cut_units
from rampipe.errors import SampleError
from rampipe.tables.commit import CommitRecord, read_commits
from rampipe.tables.derived import publish_stage, stage_is_current
from rampipe.tables.finish import read_success
from rampipe.tables.parquet import parse
from rampipe.tables.run import Run, open_run_dir
from rampipe.tables.schema import load_schema
from rampipe.types import HeadId, QueryGroup, Sample, Unit

STAGE = "examples"
ASKED_STAGE = "asked"
MAX_HEADS = 3
MAX_IMAGES = 4
"""Images with evidence that are stored of one sample; a document may have hundreds of pages."""

Row = dict[str, Any]


def write_examples(config: RunConfig, run_uri: str, heads: Sequence[HeadId]) -> str:
    """Draw `report.examples` samples, the first of each domain, with the first three heads. Returns the folder.

    Does nothing when the same was drawn before. A sample without evidence in an image is left out.
    """
    run = open_run_dir(run_uri)
    heads = tuple(heads[:MAX_HEADS])
    query = "question" if "question" in run.queries else run.queries[0]
    success = read_success(run.storage)
    made_from = {
        "commits_sha256": success.commits_sha256 if success is not None else None,
        "heads": [str(head) for head in heads],
        "examples": config.report.examples,
        "query": query,
    }
    if not stage_is_current(run.storage, STAGE, made_from):
        chosen = choose_samples(run, count=config.report.examples) if heads else []
        rows = _draw_there(config, chosen, heads, query) if chosen else []
        table = pa.Table.from_pylist(rows, schema=load_schema("examples.v1").arrow_schema)
        publish_stage(run.storage, STAGE, {"examples": table}, made_from)
    return f"{run.storage.uri}/{STAGE}"


def write_asked(
    config: RunConfig, run_uri: str, sample_ids: Sequence[str], heads: Sequence[HeadId], *, split: str | None
) -> str:
    """Draw these samples of the evaluated split with the first three heads: `<run>/asked/examples.parquet`, so that
    answers before and after can be shown with what was asked. Returns the folder.

    Does nothing when the same was drawn before. Ids that the split does not have are left out.
    """
    run = open_run_dir(run_uri)
    heads, wanted = tuple(heads[:MAX_HEADS]), sorted(set(sample_ids))
    evaluated = config.model_copy(update={"data": config.data.model_copy(update={"split": split})})
    query = "question" if "question" in run.queries else run.queries[0]
    made_from = {
        "model": run.inputs["model"],
        "shards": {shard.path: shard.digest for shard in open_source(evaluated.data).shards()},
        "samples": wanted,
        "heads": [str(head) for head in heads],
        "query": query,
    }
    if not stage_is_current(run.storage, ASKED_STAGE, made_from):
        chosen = _find_samples(evaluated, wanted) if heads else []
        rows = _draw_there(evaluated, chosen, heads, query) if chosen else []
        table = pa.Table.from_pylist(rows, schema=load_schema("examples.v1").arrow_schema)
        publish_stage(run.storage, ASKED_STAGE, {"examples": table}, made_from)
    return f"{run.storage.uri}/{ASKED_STAGE}"


def _find_samples(config: RunConfig, sample_ids: Sequence[str]) -> list[tuple[Unit, Row]]:
    """The unit of each sample, without a prediction; images are not read."""
    source, waiting, found = open_source(config.data), set(sample_ids), list[tuple[Unit, Row]]()
    units, _ = cut_units(source.shards(), unit_samples=config.capture.unit_samples, limit=config.data.limit)
    for unit in units if waiting else ():
        here = waiting.intersection(source.read_ids(unit.shard, unit.row_start, unit.row_stop))
        found += [(unit, {"sample_id": sample_id, "prediction": None}) for sample_id in sorted(here)]
        waiting -= here
    return found


def choose_samples(run: Run, *, count: int) -> list[tuple[Unit, Row]]:
    """Measured samples with evidence, in the order of the plan: the first of every domain, then the second, and so on.

    Each with its unit and its row of `samples`.
    """
    by_domain: dict[str, list[tuple[Unit, Row]]] = {}
    commits = read_commits(run.storage)
    for unit in run.units:
        if unit.unit_id not in commits or len(by_domain) >= count:
            continue
        for row in _measured(run, commits[unit.unit_id]):
            if row["num_evidence"]:
                by_domain.setdefault(row["domain"], []).append((unit, row))
    turns = [found[turn] for turn in range(count) for found in by_domain.values() if turn < len(found)]
    return turns[:count]


def _measured(run: Run, commit: CommitRecord) -> list[Row]:
    path, schema = commit.path_of("samples"), load_schema(run.schemas["samples"])
    return parse(run.storage.read(path), schema, source=f"{run.storage.uri}/{path}").to_pylist()


def _draw_there(
    config: RunConfig, chosen: Sequence[tuple[Unit, Row]], heads: Sequence[HeadId], query: QueryGroup
) -> list[Row]:
    if config.cluster.gpus_per_replica == 0:
        return _draw(config, chosen, heads, query)
    from rampipe.engine.cluster import run_on_replica

    return run_on_replica(config, _draw, config, chosen, heads, query)


def _draw(
    config: RunConfig, chosen: Sequence[tuple[Unit, Row]], heads: Sequence[HeadId], query: QueryGroup
) -> list[Row]:
    from rampipe.models.images import decode_images
    from rampipe.models.loading import load_replica
    from rampipe.trials.maps import attention_map
    from rampipe.trials.trial import prepare

    replica = load_replica(config.model, **replica_place(config.cluster))
    source, rows = open_source(config.data), list[Row]()
    for unit, measured in chosen:
        reads = source.read(unit.shard, unit.row_start, unit.row_stop)
        sample = next(read.sample for read in reads if read.sample_id == measured["sample_id"])
        if isinstance(sample, SampleError):
            continue
        try:
            prompt = prepare(replica, sample, config=config).prompt
            weights = attention_map(replica, prompt, heads, query=query)
            images = decode_images(sample, max_pixels=config.capture.max_pixels)
        except SampleError:
            continue
        boxes, about = prompt.token_boxes, {**_about(sample, measured), "query": query}
        for image, head in _pairs(sample, heads):
            here = (prompt.token_frames == image).any(dim=1) & ~boxes.isnan().any(dim=1)
            rows.append(
                {
                    **about,
                    **_picture(sample, image, images[image]),
                    "layer": head.layer,
                    "head": head.head,
                    "token_boxes": boxes[here].tolist(),
                    "weights": weights[head][here.numpy()].tolist(),
                }
            )
    return rows


def _pairs(sample: Sample, heads: Sequence[HeadId]) -> Iterator[tuple[int, HeadId]]:
    images = sorted({piece.image for piece in sample.evidence if piece.image is not None})[:MAX_IMAGES]
    return ((image, head) for image in images for head in heads)


def _about(sample: Sample, measured: Row) -> Row:
    return {
        "sample_id": sample.sample_id,
        "domain": sample.domain,
        "question": sample.question,
        "answer": sample.answers[0] if sample.answers else None,
        "prediction": measured["prediction"],
    }


def _picture(sample: Sample, index: int, image: Image.Image) -> Row:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    whole = (0.0, 0.0, float(image.width), float(image.height))
    boxes = [list(piece.box or whole) for piece in sample.evidence if piece.image == index]
    return {"image": index, "image_png": buffer.getvalue(), "evidence_boxes": boxes}
