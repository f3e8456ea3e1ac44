"""F1 to F20 with real processes, as far as other files do not show them; those that take long are marked `faults`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from rampipe.data import open_source
from rampipe.engine.capture import CaptureOutcome, run_capture
from rampipe.engine.plan import make_spec
from rampipe.errors import ClusterError, ConfigError
from rampipe.tables.commit import read_commits
from rampipe.tables.failpoint import FAILPOINTS
from rampipe.tables.run import create_run
from rampipe.tables.storage import open_storage
from rampipe.testbed.dataset import write_samples
from tests.cluster import light_worker
from tests.cluster.conftest import make_config
from tests.cluster.oracle import (
    check_same_rows,
    check_same_rows_but_one,
    check_untouched,
    commit_units,
    committed,
    golden_run,
)
from tests.cluster.processes import finish, start_driver, wait_until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def golden(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return golden_run(sample_folder, tmp_path_factory.mktemp("golden"))


@pytest.fixture
def fault_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For drivers of their own: their faults have not happened yet."""
    folder = tmp_path / "faults"
    folder.mkdir()
    monkeypatch.setenv(light_worker.FAULT_FOLDER, str(folder))
    return folder


def run(sample_folder: Path, out: Path, worker: str, *overrides: str) -> CaptureOutcome:
    config = make_config(sample_folder, out, *overrides)
    return run_capture(config, worker_class=getattr(light_worker, worker), announce=lambda text: None)


def only_run(out: Path) -> Path:
    (folder,) = (path for path in out.iterdir() if (path / "run.json").exists())
    return folder


@pytest.mark.fault("F1")
@pytest.mark.usefixtures("local_ray")
def test_six_killed_actors(sample_folder: Path, tmp_path: Path, faults: Path, golden: str) -> None:
    outcome = run(sample_folder, tmp_path, "DiesSixTimes")
    assert len(list(faults.glob("six-*"))) == 6
    assert max(record.attempt for record in read_commits(open_storage(outcome.run_uri)).values()) >= 2
    check_same_rows(outcome.run_uri, golden)


@pytest.mark.fault("F2")
@pytest.mark.faults
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("name", FAILPOINTS)
def test_an_actor_that_dies_between_two_steps_of_a_commit(
    sample_folder: Path, tmp_path: Path, faults: Path, golden: str, name: str
) -> None:
    (faults / "failpoint").write_text(name)
    outcome = run(sample_folder, tmp_path, "DiesAtFailpoint")
    assert (faults / f"fired-{name}").exists()
    check_same_rows(outcome.run_uri, golden)


@pytest.mark.fault("F3")
@pytest.mark.faults
def test_nodes_vanish_under_load_and_others_join(sample_folder: Path, tmp_path: Path, fault_folder: Path) -> None:
    golden = golden_run(sample_folder, tmp_path / "golden", "capture.unit_samples=2")
    check_nodes_that_go(sample_folder, tmp_path / "out", num_nodes=3, num_rounds=2)
    check_same_rows(str(only_run(tmp_path / "out")), golden)


@pytest.mark.fault("F3")
@pytest.mark.faults
@pytest.mark.timeout(1500)
def test_twelve_nodes_of_which_four_vanish_twice(tmp_path: Path, fault_folder: Path) -> None:
    samples = tmp_path / "samples"
    write_samples(samples, split="select", count_per_domain=192, seed=5, grid=(2, 2))
    golden = golden_run(samples, tmp_path / "golden", "capture.unit_samples=2")
    for time in ("first", "second"):
        (fault_folder / "all-nodes-went").unlink(missing_ok=True)
        came = check_nodes_that_go(samples, tmp_path / time, num_nodes=12, num_rounds=4)
        folder = str(only_run(tmp_path / time))
        check_same_rows(folder, golden)
        worked = {record.node for record in read_commits(open_storage(folder)).values()}
        assert len(worked) >= 8
        assert worked & came, "no node that joined did anything"


def told(output: str) -> dict[str, Any]:
    """What a node driver says at its end, among what Ray says."""
    (line,) = (line for line in output.splitlines() if line.startswith('{"nodes"'))
    return json.loads(line)


def check_nodes_that_go(samples: Path, out: Path, *, num_nodes: int, num_rounds: int) -> set[str]:
    """Every node that went left work behind. Returns the raylets that came."""
    flags = ("--nodes", str(num_nodes), "--rounds", str(num_rounds))
    driver = start_driver(samples, out, *flags, module="tests.cluster.node_driver")
    said = told(finish(driver, timeout_s=700))
    assert said["nodes"] == num_nodes
    assert len(said["units_left"]) == num_rounds
    assert min(said["units_left"]) >= num_nodes, f"too little was left to do: {said}"
    return {str(pid) for pid in said["came"]}


@pytest.mark.fault("F4")
@pytest.mark.usefixtures("local_ray")
def test_a_zombie_that_writes_when_all_is_over_changes_nothing(
    sample_folder: Path, tmp_path: Path, golden: str, fault_folder: Path
) -> None:
    config = make_config(sample_folder, tmp_path / "out")
    created = create_run(config.out, make_spec(config, open_source(config.data)))
    zombie = start_driver(sample_folder, tmp_path / "out", module="tests.cluster.zombie")
    wait_until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED, what="the zombie stops")
    outcome = run(sample_folder, tmp_path / "out", "LightWorker")
    assert outcome.run_uri == created.storage.uri
    before = committed(Path(outcome.run_uri))
    zombie.send_signal(signal.SIGCONT)
    assert "committed by another" in finish(zombie)
    check_same_rows(outcome.run_uri, golden, before)


@pytest.mark.fault("F5")
@pytest.mark.faults
def test_a_driver_that_is_killed_three_times(
    sample_folder: Path, tmp_path: Path, golden: str, fault_folder: Path
) -> None:
    before: dict[Path, tuple[int, str]] = {}
    flags = ("--worker", "KillsTheDriverThreeTimes", "--set", "cluster.replicas=1")
    for _ in range(3):
        driver = start_driver(sample_folder, tmp_path / "out", *flags)
        finish(driver, code=-signal.SIGKILL)
        check_untouched(str(only_run(tmp_path / "out")), before)
        before = dict(committed(only_run(tmp_path / "out")))
    finish(start_driver(sample_folder, tmp_path / "out", *flags))
    check_same_rows(str(only_run(tmp_path / "out")), golden, before)


@pytest.mark.fault("F8")
@pytest.mark.faults
def test_two_drivers_on_one_run(sample_folder: Path, tmp_path: Path, golden: str, fault_folder: Path) -> None:
    drivers = [start_driver(sample_folder, tmp_path / "out", "--worker", "TakesItsTime") for _ in range(2)]
    for driver in drivers:
        finish(driver)
    check_same_rows(str(only_run(tmp_path / "out")), golden)


@pytest.mark.fault("F10")
@pytest.mark.faults
def test_a_drained_node_is_taken_away_at_its_deadline(sample_folder: Path, tmp_path: Path, fault_folder: Path) -> None:
    golden = golden_run(sample_folder, tmp_path / "golden", "capture.unit_samples=2")
    driver = start_driver(sample_folder, tmp_path / "out", "--fault", "drain", module="tests.cluster.node_driver")
    assert len(told(finish(driver, timeout_s=550))["units_left"]) == 2
    check_same_rows(str(only_run(tmp_path / "out")), golden)


@pytest.mark.fault("F11")
@pytest.mark.faults
def test_a_sample_that_exhausts_the_memory_of_the_machine(
    sample_folder: Path, tmp_path: Path, golden: str, poison: str, fault_folder: Path
) -> None:
    memory = psutil.virtual_memory()
    if memory.available < 12 << 30:
        pytest.skip(f"{memory.available >> 30} GiB of memory are free, the test needs 12")
    threshold = (memory.total - memory.available + (4 << 30)) / memory.total
    driver = start_driver(
        sample_folder,
        tmp_path / "out",
        *("--worker", "EatsMemory"),
        RAY_memory_usage_threshold=f"{threshold:.3f}",
        RAY_memory_monitor_refresh_ms="100",
    )
    finish(driver)
    folder = str(only_run(tmp_path / "out"))
    check_same_rows_but_one(folder, golden, poison)
    assert max(record.attempt for record in read_commits(open_storage(folder)).values()) <= 8


@pytest.mark.fault("F14")
@pytest.mark.faults
def test_calls_to_actors_that_fail_on_the_way(
    sample_folder: Path, tmp_path: Path, golden: str, fault_folder: Path
) -> None:
    failure = (
        '{"CoreWorkerService.grpc_client.PushTask":{"num_failures":6,"req_failure_prob":25,"resp_failure_prob":25}}'
    )
    folder = Path(tempfile.mkdtemp(prefix="rp-"))  # short: the names of Unix sockets are limited to 107 bytes
    flags = ("--worker", "LightWorker", "--set", "capture.unit_samples=2")
    driver = start_driver(
        sample_folder, tmp_path / "out", *flags, RAY_testing_rpc_failure=failure, RAY_TMPDIR=str(folder)
    )
    golden = golden_run(sample_folder, tmp_path / "golden", "capture.unit_samples=2")
    finish(driver)
    said = subprocess.run(
        ["grep", "-rlE", "[Ii]nject.*RPC|RPC.*[Ii]nject", str(folder)], capture_output=True, check=False
    )
    assert said.stdout, "Ray injected nothing"
    shutil.rmtree(folder)
    check_same_rows(str(only_run(tmp_path / "out")), golden)


@pytest.mark.fault("F15", "F20")
@pytest.mark.usefixtures("local_ray")
def test_one_then_four_then_one_actor_with_a_full_disk_between(
    sample_folder: Path, tmp_path: Path, faults: Path, golden: str
) -> None:
    before: dict[Path, tuple[int, str]] = {}
    for fails_from, replicas in ((2, 1), (6, 4)):
        (faults / "fails-from").write_text(str(fails_from))
        with pytest.raises(ClusterError, match=r"failed 3 times.*No space left on device.*What is committed is kept"):
            run(sample_folder, tmp_path, "FailsFrom", f"cluster.replicas={replicas}")
        check_untouched(str(only_run(tmp_path)), before)
        before = dict(committed(only_run(tmp_path)))
        assert before
    (faults / "fails-from").write_text("99")
    check_same_rows(run(sample_folder, tmp_path, "FailsFrom", "cluster.replicas=1").run_uri, golden, before)


@pytest.mark.fault("F18")
@pytest.mark.usefixtures("local_ray")
def test_other_actors_go_on_and_another_dtype_is_another_run(sample_folder: Path, tmp_path: Path, golden: str) -> None:
    config = make_config(sample_folder, tmp_path)
    created = create_run(config.out, make_spec(config, open_source(config.data)))
    commit_units(created.storage.uri, sample_folder, tmp_path, stop=3)
    before = committed(Path(created.storage.uri))
    assert len(before) == 3 * 4
    outcome = run(sample_folder, tmp_path, "LightWorker", "cluster.replicas=3")
    assert outcome.run_uri == created.storage.uri
    check_same_rows(outcome.run_uri, golden, before)
    other = make_config(sample_folder, tmp_path, "model.dtype=bfloat16")
    spec = make_spec(other, open_source(other.data))
    assert spec.run_id != created.run_id
    with pytest.raises(ConfigError, match=r"model\.dtype: run has 'float32', now 'bfloat16'"):
        create_run(other.out, spec, run_id=created.run_id)
    check_untouched(outcome.run_uri, before)


@pytest.mark.fault("F20")
@pytest.mark.faults
@pytest.mark.usefixtures("local_ray")
def test_a_shard_that_is_a_hundred_times_slower(sample_folder: Path, tmp_path: Path, golden: str) -> None:
    check_same_rows(run(sample_folder, tmp_path, "OneShardIsSlow", "cluster.replicas=4").run_uri, golden)


def test_the_oracle_sees_a_row_that_is_missing_or_touched(sample_folder: Path, tmp_path: Path, golden: str) -> None:
    other = golden_run(sample_folder, tmp_path, "data.limit=28")
    with pytest.raises(AssertionError):
        check_same_rows(other, golden)
    before = committed(Path(other))
    check_untouched(other, before)
    os.utime(Path(other) / "_commits" / "unit-000002.json")
    with pytest.raises(AssertionError):
        check_untouched(other, before)
