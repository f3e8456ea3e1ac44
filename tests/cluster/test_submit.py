"""Jobs that are submitted to a real local head with dashboard and token authentication give the local run's tables."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.pipeline import main
from rampipe.engine.job import SHIPPED
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import row_set_hash
from rampipe.testbed.dataset import write_samples

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Head:
    address: str
    environment: dict[str, str]
    token: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status_of(url: str, token: str | None, job: dict[str, str] | None = None) -> int | None:
    """HTTP status of a GET, or of the submission of `job`; None when nobody listens."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = json.dumps(job).encode() if job else None
    request = urllib.request.Request(url, data, {**headers, "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # A short path: Ray puts Unix sockets under it, whose names are limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rp-"))
    token = secrets.token_hex(32)
    (folder / "token").write_text(token, encoding="utf-8")
    port, dashboard = free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_TMPDIR": str(folder),
        "HF_HUB_OFFLINE": "1",
    }
    command = [
        str(RAY), "start", "--head", "--block", "--port", str(port), "--num-cpus", "4",
        "--node-ip-address", "127.0.0.1", "--include-dashboard", "true", "--dashboard-host", "127.0.0.1",
        "--dashboard-port", str(dashboard), "--dashboard-agent-listen-port", str(free_port()),
        "--temp-dir", str(folder / "ray"), "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{dashboard}"
            deadline = time.monotonic() + 300
            # The API answers before the agent that runs jobs is there: ready is who has taken a job.
            while status_of(f"{address}/api/jobs/", token, {"entrypoint": "true"}) != 200:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "head.log").read_text()
                time.sleep(0.2)
            yield Head(address, environment, token)
        finally:
            process.send_signal(signal.SIGTERM)  # `--block` ends the others, and only the others of this head
            process.wait(timeout=60)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, split="select", count_per_domain=8, seed=5, shard_rows=16)
    write_samples(folder, split="eval", count_per_domain=2, seed=5, shard_rows=16)
    return folder


def pipeline(samples: Path, out: Path) -> list[str]:
    return [
        "python", "-m", "jobs.pipeline", "--config", "jobs/configs/demo.toml", "--out", str(out),
        "--set", f"data.path={samples}", "--set", "rank.bootstrap_samples=50",
        "--set", "ablate.fracs=[0.0, 0.05]", "--set", "ablate.seeds=1", "--set", "ablate.bootstrap_samples=50",
        "--set", "speed.full_fracs=[0.1]", "--set", 'speed.strategies=["top"]', "--set", "speed.repeats=1",
        "--set", "speed.context_tokens=[256]", "--set", "speed.new_tokens=2",
    ]  # fmt: skip


def only_run(out: Path) -> Path:
    (run,) = [path for path in out.iterdir() if (path / "run.json").exists()]
    return run


def submit(head: Head, checkout: Path, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command[1:], "--submit", "--address", head.address],
        env={**head.environment, **environment}, cwd=checkout, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def jobs_of(head: Head) -> dict[str, str]:
    """Status of every job that rampipe submitted, by submission id."""
    request = urllib.request.Request(f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {head.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        jobs = json.load(answer)
    return {job["submission_id"]: job["status"] for job in jobs if job["submission_id"].startswith("rampipe-")}


def logs_of(head: Head, submission_id: str) -> str:
    url = f"{head.address}/api/jobs/{submission_id}/logs"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {head.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["logs"]


def final_status(head: Head, submission_id: str) -> str:
    deadline = time.monotonic() + 400
    while (status := jobs_of(head)[submission_id]) in ("PENDING", "RUNNING"):
        assert time.monotonic() < deadline, logs_of(head, submission_id)
        time.sleep(0.2)
    return status


def submitted_id(told: subprocess.CompletedProcess[str]) -> str:
    assert told.returncode == 0, told.stdout + told.stderr
    (name,) = [line.split()[1] for line in told.stdout.splitlines() if line.startswith("submitted ")]
    return name


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What travels, alone, so that nobody edits it while the tests compare names."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SHIPPED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_a_submitted_pipeline_gives_the_tables_of_a_local_one(
    head: Head, checkout: Path, samples: Path, tmp_path: Path
) -> None:
    command = pipeline(samples, tmp_path / "submitted")
    name = submitted_id(submit(head, checkout, command))
    twice = submit(head, checkout, command)
    assert (twice.returncode, twice.stderr) == (0, "")
    assert twice.stdout.splitlines()[0] in [
        f"{name} is {status} at {head.address}: the same work, nothing was submitted"
        for status in ("PENDING", "RUNNING")
    ]
    local = subprocess.run(
        [sys.executable, *pipeline(samples, tmp_path / "local")[1:]],
        cwd=checkout, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert local.returncode == 0, local.stderr[-4000:]
    assert final_status(head, name) == "SUCCEEDED", logs_of(head, name)
    one, other = only_run(tmp_path / "submitted"), only_run(tmp_path / "local")
    assert one.name == other.name
    assert row_set_hash(open_storage(str(one))) == row_set_hash(open_storage(str(other)))
    tables = sorted(
        path.relative_to(one) for stage in ("ranking", "ablation") for path in (one / stage).glob("*.parquet")
    )
    assert {"accuracy.parquet", "arms.parquet", "ranking.parquet"} <= {path.name for path in tables}
    assert [(one / name).read_bytes() for name in tables] == [(other / name).read_bytes() for name in tables]
    for table in ("accuracy", "arms"):  # their footers name the timings, which are never the same
        found, expected = (pq.read_table(run / "speed" / f"{table}.parquet") for run in (one, other))
        assert found.replace_schema_metadata() == expected.replace_schema_metadata()
    assert (one / "report" / "index.html").stat().st_size > 10_000
    before = jobs_of(head)
    again = submit(head, checkout, command)
    assert again.stdout.splitlines()[0].startswith(f"{name} is SUCCEEDED at ")
    assert jobs_of(head) == before


def test_failed_work_is_submitted_again_under_the_next_name(head: Head, checkout: Path, tmp_path: Path) -> None:
    command = [*pipeline(tmp_path / "nothing", tmp_path / "out"), "--set", "ablate.split=eval"]
    name = submitted_id(submit(head, checkout, command))
    assert final_status(head, name) == "FAILED"
    told = logs_of(head, name)
    assert "error: " in told
    assert "Traceback" not in told
    again = submit(head, checkout, command)
    assert again.stdout.startswith(f"{name} is FAILED: it is tried again\n")
    assert submitted_id(again) == f"{name}-2"
    assert final_status(head, f"{name}-2") == "FAILED"


LATE = """
import sys
from pathlib import Path
from ray.job_submission import JobSubmissionClient
from rampipe.engine import submit
from rampipe.engine.job import Job

class Early(JobSubmissionClient):
    looks = 0
    def list_jobs(self):
        Early.looks += 1
        return super().list_jobs() if Early.looks > 1 else []

address, folder = sys.argv[1:]
job = Job("rampipe-race-0", "true", Path(folder), ())
submit._client = Early
for _ in range(2):
    Early.looks = 0
    submit.submit(job, address=address)
"""


def test_of_two_that_look_before_either_submits_one_wins(head: Head, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("", encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-c", LATE, head.address, str(tmp_path)],
        env=head.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    first, second = [line for line in told.stdout.splitlines() if not line.startswith(" ")]
    assert first == f"submitted rampipe-race-0 to {head.address}"
    assert second.startswith("rampipe-race-0 is ") and second.endswith("nothing was submitted")
    assert [name for name in jobs_of(head) if name.startswith("rampipe-race")] == ["rampipe-race-0"]


def test_a_wrong_token_is_told_in_one_line(head: Head, checkout: Path, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(secrets.token_hex(32), encoding="utf-8")
    before = set(jobs_of(head))
    told = submit(head, checkout, pipeline(samples, tmp_path), RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith(f"error: Ray at {head.address} refuses the token. Set RAY_AUTH_MODE=token")
    assert told.stderr.count("\n") == 1
    assert set(jobs_of(head)) == before


def test_an_address_where_nobody_listens_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, samples: Path, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    address = f"http://127.0.0.1:{free_port()}"
    assert main([*pipeline(samples, tmp_path)[3:], "--submit", "--address", address]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: no Ray dashboard answers at {address}. Set --address or RAY_API_SERVER_ADDRESS")
    assert told.count("\n") == 1
    assert main([*pipeline(samples, tmp_path)[3:], "--address", address]) == 2
    assert main([*pipeline(samples, tmp_path)[3:], "--submit", "--plan"]) == 2


def test_a_wrong_configuration_fails_the_job_with_one_line(head: Head, tmp_path: Path) -> None:
    submit = [str(RAY), "job", "submit", "--address", head.address, "--working-dir", str(ROOT), "--"]
    result = subprocess.run(
        [*submit, *pipeline(tmp_path / "nothing", tmp_path / "out")],
        env=head.environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert result.returncode != 0
    assert "error: " in result.stdout + result.stderr
    assert "Traceback" not in result.stdout


def test_the_head_refuses_without_the_token(head: Head) -> None:
    assert status_of(f"{head.address}/api/jobs/", None) == 401
    assert status_of(f"{head.address}/api/jobs/", head.token) == 200


def test_the_head_listens_on_loopback_only(head: Head) -> None:
    port = int(head.address.rsplit(":", 1)[1])
    listening = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    addresses = {fields[1].split(":")[0] for fields in listening if int(fields[1].split(":")[1], 16) == port}
    assert addresses == {"0100007F"}, json.dumps(sorted(addresses))
