from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rampipe.config import RunConfig, load_config
from rampipe.data import open_source
from rampipe.engine.events import SkippedRow
from rampipe.engine.plan import make_spec
from rampipe.engine.windows import Window
from rampipe.engine.worker import Worker
from rampipe.errors import DataError, ModelError, SampleError, StorageError
from rampipe.tables.finish import finish_run
from rampipe.tables.run import Run, create_run, open_run_dir
from rampipe.tables.shards import write_shards
from rampipe.tables.verify import row_set_hash
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from rampipe.testbed.samples import make_sample
from rampipe.trials.trial import Trial
from rampipe.types import Sample, Unit


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, split="select", count_per_domain=2, seed=5, shard_rows=8)
    path = folder / "select-00000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[3]["images"][0]["bytes"] = b"not an image"
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    return folder


def make_config(samples: Path, *overrides: str) -> RunConfig:
    base = [
        f"model.path={weights_path()}",
        "model.dtype=float32",
        f"data.path={samples}",
        "data.split=select",
        "capture.unit_samples=4",
        "cluster.gpus_per_replica=0",
    ]
    return load_config(None, [*base, *overrides])


def make_run(config: RunConfig, out: Path) -> Run:
    return create_run(str(out), make_spec(config, open_source(config.data)))


def make_worker(config: RunConfig, run: Run) -> Worker:
    return Worker(config, run_uri=run.storage.uri, fingerprint=run.fingerprint)


def tables(run: Run) -> dict[str, bytes]:
    return {
        path: run.storage.read(path) for name in ("head_stats", "samples", "errors") for path in run.storage.list(name)
    }


@pytest.fixture(scope="module")
def done(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[dict[str, Any]]]:
    config = make_config(samples)
    run = make_run(config, tmp_path_factory.mktemp("golden"))
    worker = make_worker(config, run)
    return run, [worker.run_unit(unit, attempt=1) for unit in run.units]


def test_units_balance_and_a_bad_image_is_one_error_row(done: tuple[Run, list[dict[str, Any]]]) -> None:
    run, records = done
    assert [(record["num_ok"], record["num_errors"]) for record in records] == [(3, 1), (4, 0)]
    assert all(record["num_rows"] == record["num_ok"] * run.num_heads * 2 for record in records)
    success = finish_run(run)
    assert (success.num_ok, success.num_errors) == (7, 1)


def test_the_order_of_units_and_smaller_prefetch_do_not_change_a_byte(
    done: tuple[Run, list[dict[str, Any]]], samples: Path, tmp_path: Path
) -> None:
    config = make_config(samples, "cluster.cpus_per_replica=3")
    run = make_run(config, tmp_path)
    worker = make_worker(config, run)
    for unit in reversed(run.units):
        worker.probe(unit, range(unit.row_start, unit.row_start + 1))
        worker.run_unit(unit, attempt=2)
    assert tables(run) == tables(done[0])


def test_other_batches_are_another_run(done: tuple[Run, list[dict[str, Any]]], samples: Path, tmp_path: Path) -> None:
    assert make_run(make_config(samples, "capture.batch_tokens=64"), tmp_path).fingerprint != done[0].fingerprint


def test_windows_bound_what_is_prepared_and_lose_no_row(
    done: tuple[Run, list[dict[str, Any]]], samples: Path, tmp_path: Path
) -> None:
    config = make_config(samples, "capture.batch_tokens=64")
    run = make_run(config, tmp_path)
    worker = make_worker(config, run)
    records = [worker.run_unit(unit, attempt=1) for unit in run.units]
    assert [record["num_ok"] for record in records] == [3, 4]
    assert tables(run).keys() == tables(done[0]).keys()


@pytest.mark.parametrize("share", ["true", "false"])
def test_a_context_is_shown_to_the_vision_tower_once_however_many_questions(share: str, tmp_path: Path) -> None:
    sample = make_sample(domain="glyph", split="select", seed=5, index=0, grid=(4, 4))
    questions = [replace(sample, sample_id=f"question-{number}") for number in range(12)]
    write_shards(questions, tmp_path / "samples", split="select")
    config = make_config(
        tmp_path / "samples", f"capture.share_context={share}", "capture.batch_tokens=64", "capture.unit_samples=12"
    )
    run = make_run(config, tmp_path / "runs")
    worker = make_worker(config, run)
    seen: list[int] = []
    worker._replica.model.model.visual.register_forward_hook(lambda *_: seen.append(1))
    assert worker.run_unit(run.units[0], attempt=1)["num_ok"] == 12
    assert (len(seen) == 1) == (share == "true")


def test_smaller_batches_change_rounding_and_nothing_else(
    done: tuple[Run, list[dict[str, Any]]], samples: Path, tmp_path: Path
) -> None:
    config = make_config(samples, "capture.batch_tokens=80")
    run = make_run(config, tmp_path)
    make_worker(config, run).run_unit(run.units[1], attempt=1)
    ours, theirs = (pq.read_table(f"{of.storage.uri}/head_stats/unit-000001.parquet") for of in (run, done[0]))
    assert ours.num_rows
    for name in ours.column_names:
        if pa.types.is_floating(ours.schema.field(name).type):
            np.testing.assert_allclose(ours[name].to_numpy(), theirs[name].to_numpy(), atol=2e-5)
        else:
            assert ours[name].equals(theirs[name]), f"other order of {name}"
    assert not ours["mass_evidence"].equals(theirs["mass_evidence"]), "the same batches: this test sees nothing"


class MeetsHalfway(Worker):
    """Computes the first unit only when the second one is prepared, and the second one when the first is committed."""

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        super().__init__(config, run_uri=run_uri, fingerprint=fingerprint)
        self.prepared, self.committed = threading.Semaphore(0), threading.Event()
        self.num_measured = 0

    def _prepare(self, sample: Sample | SampleError) -> Trial | SampleError:
        self.prepared.release()
        return super()._prepare(sample)

    def _measure(self, trials: Sequence[Trial]) -> Sequence[Any]:
        self.num_measured += 1
        if self.num_measured == 1:
            assert all(self.prepared.acquire(timeout=60) for _ in range(8)), "the second unit is not read meanwhile"
        else:
            assert self.committed.wait(timeout=60), "the first unit holds the device while it is committed"
        return super()._measure(trials)


def test_one_unit_computes_while_another_is_read_or_committed(
    done: tuple[Run, list[dict[str, Any]]], samples: Path, tmp_path: Path
) -> None:
    config = make_config(samples)
    run = make_run(config, tmp_path)
    worker = MeetsHalfway(config, run_uri=run.storage.uri, fingerprint=run.fingerprint)

    def first_to_come(unit: Unit) -> dict[str, Any]:
        record = worker.run_unit(unit, attempt=1)
        worker.committed.set()
        return record

    with ThreadPoolExecutor(2) as threads:
        records = list(threads.map(first_to_come, run.units))
    assert tables(run) == tables(done[0])
    assert [record["num_ok"] for record in records] == [3, 4]


class LooksBeside(Worker):
    """Notes which rows are prepared, and in the first one gives another unit the time to begin beside its own."""

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        super().__init__(config, run_uri=run_uri, fingerprint=fingerprint)
        self.unit_of = {
            read.sample_id: unit.unit_id
            for unit in open_run_dir(run_uri).units
            for read in self._source.read(unit.shard, unit.row_start, unit.row_stop)
        }
        self.arrived, self.beside = threading.Barrier(2), threading.Event()
        self.order: list[int] = []

    def _first_window(self, windows: Iterator[Window]) -> Window | None:
        self.arrived.wait(timeout=60)
        return super()._first_window(windows)

    def _prepare(self, sample: Sample | SampleError) -> Trial | SampleError:
        assert isinstance(sample, Sample)
        self.order.append(self.unit_of[sample.sample_id])
        if self.order[-1] != self.order[0]:
            self.beside.set()
        elif len(self.order) == 1:
            self.beside.wait(timeout=0.2)
        return super()._prepare(sample)


def test_the_first_unit_of_all_is_prepared_alone(
    done: tuple[Run, list[dict[str, Any]]], samples: Path, tmp_path: Path
) -> None:
    config = make_config(samples)
    run = make_run(config, tmp_path)
    worker = LooksBeside(config, run_uri=run.storage.uri, fingerprint=run.fingerprint)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda unit: worker.run_unit(unit, attempt=1), run.units))
    assert worker.order in ([0] * 4 + [1] * 4, [1] * 4 + [0] * 4)
    assert tables(run) == tables(done[0])


def test_a_record_tells_computing_from_waiting(done: tuple[Run, list[dict[str, Any]]]) -> None:
    for record in done[1]:
        assert record["forward_s"] > 0
        assert record["wait_s"] > 0
        assert record["commit_s"] > 0
        assert record["seconds"] == pytest.approx(record["forward_s"] + record["wait_s"])


def test_a_committed_unit_is_returned_as_it_is(done: tuple[Run, list[dict[str, Any]]], samples: Path) -> None:
    run, records = done
    again = make_worker(make_config(samples), run).run_unit(run.units[0], attempt=7)
    assert again == records[0]


def test_skipped_rows_are_error_rows_and_the_others_are_measured(samples: Path, tmp_path: Path) -> None:
    config = make_config(samples)
    run = make_run(config, tmp_path)
    worker = make_worker(config, run)
    skip = (SkippedRow(1, "died", "killed by signal 9 (pid 4711)"),)
    record = worker.run_unit(run.units[0], attempt=4, skip=skip)
    assert (record["num_ok"], record["num_errors"]) == (2, 2)
    errors = pq.read_table(f"{run.storage.uri}/errors/unit-000000.parquet").to_pylist()
    assert [(row["row"], row["stage"], row["code"]) for row in errors] == [
        (1, "engine", "killed_worker"),
        (3, "decode", "image_corrupt"),
    ]
    assert "4711" not in errors[0]["message"], "a message that differs between runs"


def test_a_probe_commits_nothing(samples: Path, tmp_path: Path) -> None:
    config = make_config(samples)
    run = make_run(config, tmp_path)
    make_worker(config, run).probe(run.units[0], range(1, 3))
    assert tables(run) == {}
    assert row_set_hash(run.storage) == row_set_hash(make_run(config, tmp_path / "empty").storage)


def test_a_unit_of_another_fingerprint_is_not_taken_for_done(
    done: tuple[Run, list[dict[str, Any]]], samples: Path
) -> None:
    run, _ = done
    worker = Worker(make_config(samples), run_uri=run.storage.uri, fingerprint="0" * 64)
    with pytest.raises(StorageError, match="fingerprint"):
        worker.run_unit(run.units[0], attempt=1)


def test_a_checkpoint_that_changed_since_the_plan_is_refused(samples: Path, tmp_path: Path) -> None:
    copy = tmp_path / "weights"
    shutil.copytree(weights_path(), copy)
    config = make_config(samples, f"model.path={copy}")
    run = make_run(config, tmp_path / "runs")
    make_worker(config, run)
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(ModelError, match=r"not the checkpoint that run .* \(chat_template differ\)"):
        make_worker(config, run)


@pytest.mark.fault("F19")
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_shard_that_was_replaced_since_the_plan_is_refused_by_name(samples: Path, tmp_path: Path, when: str) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(samples, folder)
    config = make_config(samples, f"data.path={folder}")
    run = make_run(config, tmp_path / "runs")
    worker = make_worker(config, run)
    worker.run_unit(run.units[0], attempt=1)
    shard = folder / run.units[1].shard
    table = pq.read_table(shard)

    def replace_it() -> None:
        """By the same rows in another order, renamed over it as a careful tool does: nothing else tells of it."""
        pq.write_table(table.take([*range(table.num_rows)][::-1]), folder / "new")
        (folder / "new").rename(shard)

    if when == "before":
        replace_it()
    else:
        measure = worker._measure
        worker._measure = lambda trials: (replace_it(), measure(trials))[1]  # type: ignore[method-assign]
    with pytest.raises(DataError, match=rf"shard {shard.name} .*not the file that the run was planned with"):
        worker.run_unit(run.units[1], attempt=1)
    assert len(run.storage.list("_commits")) == 1
    assert make_run(config, tmp_path / "runs").run_id != run.run_id
