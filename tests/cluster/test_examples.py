"""Where replicas need a GPU, the attention maps are made where a replica would live, not in the driver."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from tests.local_run import finished_run, make_config

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.cluster

# A GPU that Ray believes in: the task is placed by it and finds no CUDA, so it computes on the CPU.
DRIVER = """
import os, sys, ray
from rampipe.config import load_config
from rampipe.engine.examples import write_examples
from rampipe.types import HeadId
ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
out, overrides = sys.argv[1], sys.argv[2:]
write_examples(load_config(None, overrides), out, [HeadId(0, 5)])
assert "torch" not in sys.modules, "the driver loaded the model"
"""


def test_a_driver_without_gpu_does_not_load_the_model(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples", split="select", count_per_domain=1, seed=5)
    uri = finished_run(make_config(model=weights_path(), data=tmp_path / "samples", out=tmp_path / "runs"))
    overrides = [f"model.path={weights_path()}", "model.dtype=float32", f"data.path={tmp_path / 'samples'}"]
    result = subprocess.run(
        [sys.executable, "-c", DRIVER, uri, *overrides, "cluster.gpus_per_replica=1"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert pq.read_table(f"{uri}/examples/examples.parquet").num_rows == 3
