"""An ablation ends with the same answers whatever happens to its processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from rampipe.engine.ablate import FOLDER, run_ablation
from rampipe.errors import StorageError
from rampipe.heads.verdict.judge import judge
from rampipe.tables.commit import read_commits
from rampipe.tables.read import open_run
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import row_set_hash, verify
from rampipe.testbed.dataset import write_samples
from tests.ablated import finished_ablation
from tests.cluster.ablation_driver import PLAN, ActorDiesOnce, ablation_run
from tests.cluster.oracle import committed

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablation-samples")
    write_samples(folder, split="select", count_per_domain=1, seed=5)
    write_samples(folder, split="eval", count_per_domain=4, seed=5)
    return folder


@pytest.fixture(scope="module")
def golden(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of the answers that one process gives without Ray."""
    config, run_uri = ablation_run(samples, tmp_path_factory.mktemp("golden"))
    return finished_ablation(config, run_uri, PLAN).storage.uri


def accuracy(uri: str) -> pl.DataFrame:
    table, _ = judge(open_run(uri).outcomes, PLAN, bootstrap_samples=20)
    assert table.filter(pl.col("arm_id") == "base").get_column("num_correct").sum() > 0
    return table


@pytest.mark.usefixtures("local_ray")
def test_answers_survive_a_killed_driver_and_then_a_killed_actor(
    samples: Path, tmp_path: Path, faults: Path, golden: str
) -> None:
    command = [sys.executable, "-m", "tests.cluster.ablation_driver", str(samples), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert (faults / "ablation-driver").exists()
    config, run_uri = ablation_run(samples, tmp_path)
    (folder,) = Path(run_uri, FOLDER).iterdir()
    before = committed(folder)
    assert 3 <= len(before) < 4 * 3  # one unit at least, not all four: a commit, outcomes and errors each

    outcome = run_ablation(config, run_uri, PLAN, worker_class=ActorDiesOnce, announce=lambda text: None)
    assert (faults / "ablation-actor").exists()
    assert (outcome.run_uri, outcome.num_ok, outcome.num_errors) == (str(folder), 16, 0)
    assert read_commits(open_storage(outcome.run_uri))[3].attempt >= 2
    after = committed(folder)
    assert {path: after[path] for path in before} == before
    assert len(after) == 4 * 3
    assert row_set_hash(open_storage(outcome.run_uri)) == row_set_hash(open_storage(golden))
    assert verify(open_storage(outcome.run_uri)).problems == ()
    assert accuracy(outcome.run_uri).equals(accuracy(golden))


def test_one_changed_bit_of_an_answer_is_noticed(golden: str, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(golden, folder)
    before = committed(folder)
    damaged = folder / "outcomes" / "unit-000001.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert committed(folder) != before
    assert [problem for problem in verify(open_storage(str(folder))).problems if damaged.name in problem]
    with pytest.raises(StorageError, match=damaged.name):
        row_set_hash(open_storage(str(folder)))
