from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from rampipe.config import RunConfig, load_config
from rampipe.data import open_source
from rampipe.engine.examples import write_asked, write_examples
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


def test_named_samples_of_another_split_are_drawn_with_what_they_ask(finished: tuple[RunConfig, Run]) -> None:
    config, run = finished
    write_samples(Path(config.data.path), split="eval", count_per_domain=2, seed=6, shard_rows=8)
    evaluated = config.model_copy(update={"data": config.data.model_copy(update={"split": "eval"})})
    source = open_source(evaluated.data)
    reads = [read for shard in source.shards() for read in source.read(shard.path, 0, shard.num_rows)]
    wanted = {reads[-1].sample_id: reads[-1].sample, reads[2].sample_id: reads[2].sample}
    folder = write_asked(config, run.storage.uri, [*wanted, "not/there"], HEADS, split="eval")
    rows = pq.read_table(f"{folder}/examples.parquet").to_pylist()
    assert {row["sample_id"] for row in rows} == set(wanted)
    for row in rows:
        assert (row["question"], row["answer"]) == (
            wanted[row["sample_id"]].question,
            wanted[row["sample_id"]].answers[0],
        )
        assert row["prediction"] is None
    written = Path(f"{folder}/examples.parquet").stat().st_mtime_ns
    write_asked(config, run.storage.uri, ["not/there", *wanted], HEADS, split="eval")
    assert Path(f"{folder}/examples.parquet").stat().st_mtime_ns == written
    write_asked(config, run.storage.uri, list(wanted)[:1], HEADS, split="eval")  # twin: another choice is drawn
    assert len({row["sample_id"] for row in pq.read_table(f"{folder}/examples.parquet").to_pylist()}) == 1
