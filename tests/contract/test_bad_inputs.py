"""What a whole run makes of bad inputs: each is an error row with its reason, or is refused before it starts.

One dataset holds all bad samples between good ones; it is captured once, by the real worker.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file, save_file

from rampipe.data import open_source
from rampipe.engine.plan import make_spec
from rampipe.engine.worker import Worker
from rampipe.errors import DataError, ModelError, RampipeError, StorageError
from rampipe.tables.finish import finish_run
from rampipe.tables.read import OpenRun, open_run
from rampipe.tables.run import Run, create_run
from rampipe.tables.verify import verify
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from tests.local_run import make_config

ROOT = Path(__file__).resolve().parents[2]
ESCAPING_ID = "../../../climbed-out-of-the-run"
NOT_UTF8 = b"\xff\xfe"


def png(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def pixel_bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header promises side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG with a comment of 100 MB in 100 KB."""
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 100_000_000, zip=True)
    return png(Image.new("RGB", (32, 32)), pnginfo=info)


Change = Callable[[dict[str, Any]], None]


def image(content: bytes) -> Change:
    return lambda row: row["images"][0].update(bytes=content)


def box(*corners: float) -> Change:
    return lambda row: row["evidence"][0].update(box=list(corners))


def long_context(row: dict[str, Any]) -> None:
    row["context"].append({"kind": "text", "text": "the " * 5000, "image": None, "frames": None})


GOOD_PNG = png(Image.effect_noise((64, 64), 50).convert("RGB"))
# By row of the shard: the case, what is done to the row, and the code of its error row; None for a measured sample.
BAD_ROWS: dict[int, tuple[str, Change, str | None]] = {
    1: ("B1", image(b"<html>404</html>"), "image_corrupt"),
    2: ("B2", image(b""), "image_empty"),
    3: ("B3", image(GOOD_PNG[: len(GOOD_PNG) // 2]), "image_corrupt"),
    5: ("B4", image(png(Image.new("RGB", (1, 1)))), "image_too_small"),
    6: ("B5", image(pixel_bomb(20_000)), "image_too_large"),
    7: ("B6", image(text_bomb()), "image_corrupt"),
    8: ("B11", box(60, 0, 20, 40), "evidence_outside"),
    9: ("B11", box(5000, 5000, 5100, 5100), "evidence_outside"),
    10: ("B11", box(-8, -8, 60, 60), None),
    11: ("B12", lambda row: row["evidence"].clear(), None),
    13: ("B14", long_context, "context_too_long"),
    14: ("B15", lambda row: None, "not_utf8"),
    17: ("B23", lambda row: row.update(sample_id=ESCAPING_ID), None),
}
NUM_ROWS = 20


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (path,) = write_samples(folder, split="select", count_per_domain=NUM_ROWS // 4, seed=3, grid=(2, 2))
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row, (_, change, _) in BAD_ROWS.items():
        change(rows[row])
    changed = pa.Table.from_pylist(rows, schema=table.schema)
    questions = [question.encode() for question in changed.column("question").to_pylist()]
    questions[14] = NOT_UTF8
    raw = pa.array(questions, pa.binary())
    column = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])
    pq.write_table(changed.set_column(changed.schema.get_field_index("question"), "question", column), path)
    return folder


@pytest.fixture(scope="module")
def captured(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    config = make_config(model=weights_path(), data=samples, out=tmp_path_factory.mktemp("out"))
    run = create_run(config.out, make_spec(config, open_source(config.data)))
    worker = Worker(config, run_uri=run.storage.uri, fingerprint=run.fingerprint)
    for unit in run.units:
        worker.run_unit(unit, attempt=1)
    finish_run(run)
    return open_run(run.storage.uri, check="sha256")


@pytest.fixture(scope="module")
def planned_ids(samples: Path) -> list[str]:
    return pq.read_table(samples / "select-00000.parquet").column("sample_id").to_pylist()


@pytest.mark.parametrize(
    ("row", "code"),
    [
        pytest.param(row, code, marks=pytest.mark.fault(case), id=f"{case}-{row}")
        for row, (case, _, code) in BAD_ROWS.items()
    ],
)
def test_a_bad_sample_is_one_error_row_or_is_flagged(
    captured: OpenRun, planned_ids: list[str], row: int, code: str | None
) -> None:
    errors = {error["row"]: error for error in captured.errors.collect().to_dicts()}
    if code is None:
        assert row not in errors
        return
    assert (errors[row]["sample_id"], errors[row]["code"]) == (planned_ids[row], code)
    assert planned_ids[row] in errors[row]["message"]
    assert len(errors[row]["message"]) <= 500


@pytest.mark.fault("B1")
def test_every_other_sample_is_measured_and_the_run_balances(captured: OpenRun, planned_ids: list[str]) -> None:
    bad = {row for row, (_, _, code) in BAD_ROWS.items() if code is not None}
    assert captured.errors.collect()["row"].to_list() == sorted(bad)
    expected = [name for row, name in enumerate(planned_ids) if row not in bad]
    assert captured.samples.collect()["sample_id"].to_list() == expected
    assert captured.balance.complete
    assert verify(captured.run.storage).problems == ()


@pytest.mark.fault("B11", "B12")
def test_what_was_clipped_or_lacks_evidence_is_flagged_and_null(captured: OpenRun, planned_ids: list[str]) -> None:
    flags = dict(captured.samples.select("sample_id", "flags").collect().iter_rows())
    assert flags[planned_ids[10]] == ["evidence_clipped"]
    assert flags[planned_ids[11]] == ["no_evidence"]
    assert flags[planned_ids[0]] == []
    rows = captured.head_stats.filter(sample_id=planned_ids[11]).collect()
    assert rows.height
    assert rows["mass_evidence"].null_count() == rows.height
    assert captured.head_stats.filter(sample_id=planned_ids[0]).collect()["mass_evidence"].null_count() == 0


@pytest.mark.fault("B23")
def test_an_id_that_looks_like_a_path_touches_no_path(captured: OpenRun) -> None:
    assert captured.samples.filter(sample_id=ESCAPING_ID).collect().height == 1
    folder = Path(captured.run.storage.uri)
    assert not list(folder.parents[2].rglob("*climbed-out-of-the-run*"))
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "README.md",
        "run.json",
        "plan.parquet",
        "unit-000000.parquet",
        "unit-000000.json",
        "_SUCCESS.json",
    }


@pytest.mark.fault("B6")
def test_a_shard_that_unpacks_beyond_reason_is_refused_by_name(samples: Path, tmp_path: Path) -> None:
    table = pq.read_table(samples / "select-00000.parquet").slice(0, 1)
    rows = table.to_pylist()
    rows[0]["answers"] = ["a" * (300 << 20)]
    path = tmp_path / "select-00000.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"select-00000\.parquet: \d+ bytes of row group 0 unpack to 3\d{8}"):
        open_source(make_config(model=weights_path(), data=tmp_path, out=tmp_path).data).shards()


def planned(samples: Path, out: Path, model: Path) -> Run:
    config = make_config(model=model, data=samples, out=out)
    return create_run(config.out, make_spec(config, open_source(config.data)))


@pytest.mark.fault("B16")
def test_an_output_that_cannot_be_written_is_refused_first(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match=r"file/.*A part of the path is a file: pass another folder with --out"):
        planned(samples, tmp_path / "file", weights_path())


@pytest.mark.fault("B17")
def test_a_wrong_model_path_is_refused_when_planning(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.*not a folder and not a Hub id"):
        planned(samples, tmp_path / "out", tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def worker_error(folder: Path, samples: Path, out: Path) -> RampipeError:
    """What the first replica says of a checkpoint."""
    config = make_config(model=folder, data=samples, out=out)
    run = create_run(config.out, make_spec(config, open_source(config.data)))
    with pytest.raises(RampipeError) as caught:
        Worker(config, run_uri=run.storage.uri, fingerprint=run.fingerprint)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(weights_path(), tmp_path / "model"))


@pytest.mark.fault("B18")
def test_weights_that_are_missing_are_named_by_the_first_replica(
    checkpoint: Path, samples: Path, tmp_path: Path
) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    missing = next(name for name in weights if name.endswith("q_proj.weight"))
    save_file(
        {name: tensor for name, tensor in weights.items() if name != missing},
        checkpoint / "model.safetensors",
        metadata={"format": "pt"},
    )
    assert "1 missing" in str(worker_error(checkpoint, samples, tmp_path / "out"))


@pytest.mark.fault("B19")
def test_truncated_weights_are_named_by_the_first_replica(checkpoint: Path, samples: Path, tmp_path: Path) -> None:
    os.truncate(checkpoint / "model.safetensors", (checkpoint / "model.safetensors").stat().st_size - 100)
    assert "model.safetensors of" in str(worker_error(checkpoint, samples, tmp_path / "out"))


@pytest.mark.fault("B21")
def test_a_malicious_pickle_is_not_run(checkpoint: Path, samples: Path, tmp_path: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    marker = tmp_path / "ran"
    evil = f"cposix\nsystem\n(S'touch {marker}'\ntR."  # runs when it is unpickled
    (checkpoint / "pytorch_model.bin").write_bytes(evil.encode())
    with pytest.raises(ModelError, match="pickled weights never"):
        planned(samples, tmp_path / "out", checkpoint)
    assert not marker.exists()
    subprocess.run([sys.executable, "-c", f"import pickle; pickle.loads({evil.encode()!r})"], check=True)
    assert marker.exists(), "the pickle is harmless, so the test shows nothing"
