"""A small captured run whose stages were run by their workers in this process: no job here starts Ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from rampipe.config import RunConfig, load_config
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from tests.local_run import finished_run

COUNT = 3
CONFIG = """
out = "{folder}/runs"
[model]
path = "{model}"
dtype = "float32"
[data]
path = "{folder}/samples"
split = "select"
[capture]
queries = ["question"]
calibrate = false
predict_tokens = 3
unit_samples = 6
[cluster]
replicas = 2
gpus_per_replica = 0
[rank]
bootstrap_samples = 20
[report]
examples = 0
[ablate]
split = "eval"
fracs = [0.05]
seeds = 1
strategies = ["top", "bottom", "random"]
bootstrap_samples = 20
[speed]
split = "eval"
full_fracs = [0.1]
seeds = 2
sink_tokens = 4
window_tokens = 8
dense_below_tokens = 0
context_tokens = [96, 128]
new_tokens = 2
warmups = 0
repeats = 2
"""


@dataclass(frozen=True)
class Captured:
    """A captured run and the file that it was made from."""

    uri: str
    config: RunConfig
    file: Path


def files_of(uri: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(uri).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    folder = tmp_path_factory.mktemp("jobs")
    for split in ("select", "eval"):
        write_samples(folder / "samples", split=split, count_per_domain=COUNT, seed=3)
    file = folder / "my.toml"
    file.write_text(CONFIG.format(folder=folder, model=weights_path()), encoding="utf-8")
    config = load_config(file)
    return Captured(finished_run(config), config, file)


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would start Ray joins a cluster that is not there, and fails."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
