from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rampipe.config import RunConfig, load_config
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from tests.cluster.light_worker import FAULT_FOLDER


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set before Ray starts: its processes inherit the environment of that moment."""
    folder = tmp_path_factory.mktemp("faults")
    os.environ[FAULT_FOLDER] = str(folder)
    return folder


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, split="select", count_per_domain=8, seed=5, shard_rows=16)
    return folder


@pytest.fixture(scope="session")
def poison(sample_folder: Path) -> str:
    """Id of the sample that is poison to the workers that are told to die of it."""
    import pyarrow.parquet as pq

    sample_id = pq.read_table(sample_folder / "select-00000.parquet").column("sample_id")[6].as_py()
    os.environ["RAMPIPE_TEST_POISON"] = sample_id
    return sample_id


@pytest.fixture(scope="session")
def local_ray(faults: Path, poison: str) -> Iterator[None]:
    """One local Ray for all tests of the process; `run_capture` uses what is there."""
    import ray

    assert faults.is_dir()
    assert poison
    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=80 << 20,
    )
    yield
    ray.shutdown()


@pytest.fixture
def config(sample_folder: Path, tmp_path: Path) -> RunConfig:
    return make_config(sample_folder, tmp_path)


def make_config(sample_folder: Path, out: Path, *overrides: str) -> RunConfig:
    return load_config(
        None,
        [
            f"model.path={weights_path()}",
            "model.dtype=float32",
            f"data.path={sample_folder}",
            "data.split=select",
            "capture.unit_samples=4",
            "cluster.gpus_per_replica=0",
            "cluster.replicas=2",
            "cluster.max_error_frac=0.1",
            f"out={out}",
            *overrides,
        ],
    )
