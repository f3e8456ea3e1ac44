from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from rampipe.config import RunConfig, load_config
from rampipe.data import open_source
from rampipe.engine.examples import write_examples
from rampipe.engine.plan import make_spec
from rampipe.engine.worker import Worker
from rampipe.tables.finish import finish_run
from rampipe.tables.run import Run, create_run
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from rampipe.types import HeadId

HEADS = [HeadId(3, 5), HeadId(0, 1)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Run]:
    folder = tmp_path_factory.mktemp("examples")
    write_samples(folder / "samples", split="select", count_per_domain=2, seed=5, shard_rows=8)
    config = load_config(
        None,
        [
            f"model.path={weights_path()}",
            "model.dtype=float32",
            f"data.path={folder / 'samples'}",
            "capture.unit_samples=4",
            "cluster.gpus_per_replica=0",
            f"out={folder / 'runs'}",
        ],
    )
    run = create_run(config.out, make_spec(config, open_source(config.data)))
    worker = Worker(config, run_uri=run.storage.uri, fingerprint=run.fingerprint)
    for unit in run.units:
        worker.run_unit(unit, attempt=1)
    finish_run(run)
    return config, run


def test_the_maps_are_those_that_were_measured(finished: tuple[RunConfig, Run]) -> None:
    config, run = finished
    folder = write_examples(config, run.storage.uri, HEADS)
    rows = pq.read_table(f"{folder}/examples.parquet").to_pylist()
    measured = {
        (row["sample_id"], row["layer"], row["head"]): row["mass_evidence"]
        for path in run.storage.list("head_stats")
        for row in pq.read_table(f"{run.storage.uri}/{path}").to_pylist()
        if row["query"] == "question"
    }
    assert len({row["sample_id"] for row in rows}) == len({row["domain"] for row in rows}) == 3
    assert {(row["layer"], row["head"]) for row in rows} == {(3, 5), (0, 1)}
    for row in rows:
        ((x0, y0, x1, y1),) = row["evidence_boxes"]
        on_evidence = [
            weight
            for weight, box in zip(row["weights"], row["token_boxes"], strict=True)
            if box[0] >= x0 and box[1] >= y0 and box[2] <= x1 and box[3] <= y1
        ]
        assert sum(on_evidence) == pytest.approx(measured[row["sample_id"], row["layer"], row["head"]], abs=1e-5)
        image = Image.open(BytesIO(row["image_png"]))
        assert max(box[2] for box in row["token_boxes"]) == image.width


def test_the_same_examples_are_not_drawn_twice_and_others_are(finished: tuple[RunConfig, Run]) -> None:
    config, run = finished
    path = Path(write_examples(config, run.storage.uri, HEADS)) / "examples.parquet"
    before = path.stat().st_mtime_ns
    write_examples(config, run.storage.uri, HEADS)
    assert path.stat().st_mtime_ns == before
    write_examples(config, run.storage.uri, HEADS[:1])
    assert {row["layer"] for row in pq.read_table(path).to_pylist()} == {3}


def test_no_heads_give_an_empty_table(finished: tuple[RunConfig, Run]) -> None:
    config, run = finished
    assert pq.read_table(f"{write_examples(config, run.storage.uri, [])}/examples.parquet").num_rows == 0
