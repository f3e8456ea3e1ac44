"""A finished run without a model: planted heads look at the evidence, ranking is the real one, examples are drawn."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from rampipe.config import RankConfig
from rampipe.heads.rank import rank_run
from rampipe.tables.commit import Provenance, commit_unit
from rampipe.tables.derived import publish_stage
from rampipe.tables.finish import finish_run
from rampipe.tables.rows import GroupStatistics, SampleFailure, SampleResult
from rampipe.tables.run import Run, RunSpec, create_run
from rampipe.tables.schema import load_schema
from rampipe.types import REGIONS, HeadId, Unit

NUM_LAYERS, NUM_HEADS, UNIT_SAMPLES = 8, 6, 8
PLANTED = (HeadId(5, 2), HeadId(3, 4))
PLANTED_TEXT = (HeadId(5, 2), HeadId(1, 1))
"""Of samples whose evidence is text."""
EVIL = "<script>alert('x')</script>"
PROVENANCE = Provenance(attempt=1, node="here", device="cpu", versions={}, seconds=0.5)


@dataclass(frozen=True)
class Shape:
    """What varies between the runs of the tests. kinds: of evidence by domain, `image`, `text` or `both`; a domain that
    is not there does not say.
    """

    domains: tuple[str, ...] = ("receipts", "charts & tables", "symbols")
    num_units: int = 3
    num_committed: int = 3
    failed_rows: tuple[int, ...] = (7, 13)
    predicts: bool = True
    sample_prefix: str = "sample"
    kinds: Mapping[str, str] = field(default_factory=dict[str, str])


def statistics(name: str, planted: Sequence[HeadId] = PLANTED) -> GroupStatistics:
    """Noise on all heads, about 0.6 of evidence mass on the first planted head and 0.4 on the second."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    weights = np.ones(len(REGIONS))
    weights[0] = 0.15
    mass = draw.dirichlet(weights * 4, size=(NUM_LAYERS, NUM_HEADS))
    for head, level in zip(planted, (0.6, 0.4), strict=True):
        share = level + 0.05 * draw.standard_normal()
        rest = mass[head.layer, head.head, 1:]
        mass[head.layer, head.head, 1:] = rest / rest.sum() * (1 - share)
        mass[head.layer, head.head, 0] = share
    return GroupStatistics(
        layers=np.arange(NUM_LAYERS, dtype=np.int16),
        mass=mass.astype(np.float32),
        peak_evidence=(mass[..., 0] / 2).astype(np.float32),
        hit=(mass[..., 0] > 0.3).astype(np.float32),
        entropy_nats=np.ones((NUM_LAYERS, NUM_HEADS), np.float32),
        mass_evidence_null=None,
        has_evidence=True,
        has_learned_sink=True,
    )


def make_run(out: Path, shape: Shape | None = None) -> Run:
    """Capture: commits the first units, and finishes the run when these are all."""
    shape = shape or Shape()
    units = tuple(
        Unit(index, "part.parquet", index * UNIT_SAMPLES, (index + 1) * UNIT_SAMPLES)
        for index in range(shape.num_units)
    )
    inputs = {"model": {"dtype": "float32", "weights": "0" * 64}, "data": {"etag": "one"}}
    spec = RunSpec("Org/Tiny-VL-7B", "made", inputs, units, ("question",), NUM_LAYERS * NUM_HEADS)
    run = create_run(str(out), spec)
    for unit in units[: shape.num_committed]:
        rows = range(unit.row_start, unit.row_stop)
        commit_unit(
            run.storage,
            fingerprint=run.fingerprint,
            unit=unit,
            results=[_result(row, shape) for row in rows if row not in shape.failed_rows],
            failures=[_failure(row, shape) for row in rows if row in shape.failed_rows],
            provenance=PROVENANCE,
        )
    if shape.num_committed == shape.num_units:
        finish_run(run)
    return run


def rank(run: Run, *, allow_partial: bool = False) -> None:
    rank_run(run.storage.uri, RankConfig(bootstrap_samples=50, k_frac=0.1, allow_partial=allow_partial))


def publish_examples(run: Run, *, sample_ids: Sequence[str], question: str = "What is the total?") -> None:
    rows = [_example(sample_id, head, question) for sample_id in sample_ids for head in PLANTED]
    table = pa.Table.from_pylist(rows, schema=load_schema("examples.v1").arrow_schema)
    publish_stage(run.storage, "examples", {"examples": table}, {"test": True})


def receipt() -> bytes:
    image = Image.new("RGB", (448, 336), "white")
    drawing = ImageDraw.Draw(image)
    for line, y in enumerate(range(12, 320, 20)):
        drawing.text((24, y), f"{line + 1:2d}  item of the receipt        {3.5 * line:6.2f}", fill="black")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _result(row: int, shape: Shape) -> SampleResult:
    sample_id = f"{shape.sample_prefix}-{row}"
    domain = shape.domains[row % len(shape.domains)]
    kind = shape.kinds.get(domain)
    counts = {"evidence": 5, "question": 9}
    return SampleResult(
        sample_id=sample_id,
        domain=domain,
        context_key=f"{row:016x}",
        num_tokens=100 + row,
        region_counts=counts | ({"evidence_image_rest": 7} if kind in ("image", "both") else {}),
        groups={"question": statistics(sample_id, PLANTED_TEXT if kind == "text" else PLANTED)},
        prediction="42" if shape.predicts else None,
        correct=row % 4 != 0 if shape.predicts else None,
        flags=("evidence_text",) if kind in ("text", "both") else (),
    )


def _failure(row: int, shape: Shape) -> SampleFailure:
    return SampleFailure(
        f"{shape.sample_prefix}-{row}", "part.parquet", row, "decode", "image_corrupt", f"image 0 of {EVIL} is broken"
    )


def _example(sample_id: str, head: HeadId, question: str) -> dict[str, object]:
    draw = np.random.default_rng(head.layer)
    boxes = [[x, y, x + 28.0, y + 28.0] for y in range(0, 336, 28) for x in range(0, 448, 28)]
    weights = draw.gamma(0.3, 0.001, len(boxes))
    evidence = [224.0, 168.0, 280.0, 196.0]
    weights[[boxes.index([224.0, 168.0, 252.0, 196.0]), boxes.index([252.0, 168.0, 280.0, 196.0])]] = 0.3, 0.2
    return {
        "sample_id": sample_id,
        "domain": "receipts",
        "question": question,
        "answer": "28.00",
        "prediction": None,
        "layer": head.layer,
        "head": head.head,
        "query": "question",
        "image": 0,
        "image_png": receipt(),
        "evidence_boxes": [evidence],
        "token_boxes": boxes,
        "weights": weights.tolist(),
    }
