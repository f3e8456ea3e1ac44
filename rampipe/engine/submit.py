"""Hands a job to the job API of a running Ray cluster, once: work that is there already is not submitted again.

Ray never takes a submission id twice, so a further attempt at failed work has `-2`, `-3`, ... behind its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rampipe.engine.exposure import refuse_exposed
from rampipe.engine.job import Job
from rampipe.errors import ClusterError, ConfigError

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
FAILED = ("FAILED", "STOPPED")
ERROR_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a request. status: of the attempt `submission_id`. submitted: whether it is a new one.

    failed_id: the attempt before, when that failed; its status is `failed_status`.
    """

    submission_id: str
    status: str
    submitted: bool
    address: str
    failed_id: str | None = None
    failed_status: str | None = None


def submit(job: Job, *, address: str | None = None, announce: Callable[[str], None] = print) -> Submission:
    """Submit `job` unless an attempt at it is waiting, running or done; say what was found and done.

    address: of the dashboard; else that of RAY_API_SERVER_ADDRESS, else port 8265 of this machine.
    Raises ConfigError for an address that cannot be one, ClusterError when the cluster does not answer or refuses, or
    is open to everybody.
    """
    address = job_address(address)
    refuse_exposed(address, has_token=os.environ.get("RAY_AUTH_MODE", "").lower() == "token")
    with _one_line_errors(address):
        outcome = _submit(_client(address), job, address)
    for line in describe(outcome):
        announce(line)
    return outcome


def job_address(address: str | None) -> str:
    """The address that is meant. Raises ConfigError when it is no plain http address."""
    meant = (address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS).rstrip("/")
    parts = urlsplit(meant)
    if "@" in parts.netloc:
        raise ConfigError(
            "--address: holds a user or a password. Give the address alone; the token goes by RAY_AUTH_MODE."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--address {meant!r}: not that of a dashboard. Write it as {DEFAULT_ADDRESS}")
    return meant


def describe(outcome: Submission) -> list[str]:
    """What a user is told."""
    name, at = outcome.submission_id, f"--address {outcome.address}"
    if outcome.submitted:
        first = f"submitted {name} to {outcome.address}"
    else:
        first = f"{name} is {outcome.status} at {outcome.address}: the same work, nothing was submitted"
    lines = [] if outcome.failed_id is None else [f"{outcome.failed_id} is {outcome.failed_status}: it is tried again"]
    lines += [first, f"  logs: ray job logs {name} {at}"]
    return lines if outcome.status == "SUCCEEDED" else [*lines, f"  stop: ray job stop {name} {at}"]


def _submit(client: Any, job: Job, address: str) -> Submission:
    last = _last_attempt(client, job.name)
    if last is not None and last[1] not in FAILED:
        return Submission(last[0], last[1], submitted=False, address=address)
    attempt = 1 if last is None else _attempt_number(last[0], job.name) + 1
    submission_id = job.name if attempt == 1 else f"{job.name}-{attempt}"
    try:
        client.submit_job(
            entrypoint=job.entrypoint,
            submission_id=submission_id,
            runtime_env={"working_dir": str(job.folder), "excludes": list(job.excludes)},
        )
    except RuntimeError:
        won = _last_attempt(client, job.name)  # Ray refuses the second of two that come at the same time
        if won is None or won[0] != submission_id:
            raise
        return Submission(won[0], won[1], submitted=False, address=address)
    failed_id, failed_status = last or (None, None)
    return Submission(submission_id, "PENDING", True, address, failed_id, failed_status)


def _last_attempt(client: Any, name: str) -> tuple[str, str] | None:
    """Submission id and status of the newest attempt at this work that the cluster remembers."""
    attempts = [
        (number, job.submission_id, str(job.status))
        for job in client.list_jobs()
        if job.submission_id and (number := _attempt_number(job.submission_id, name))
    ]
    return max(attempts)[1:] if attempts else None


def _attempt_number(submission_id: str, name: str) -> int:
    """1, 2, ... for an attempt at the work of this name, 0 for any other job."""
    if submission_id == name:
        return 1
    start, _, number = submission_id.rpartition("-")
    return int(number) if start == name and number.isdecimal() else 0


def _client(address: str) -> Any:
    os.environ[ADDRESS_VARIABLE] = address  # Ray prefers it, and RAY_ADDRESS, to the address that it is given
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(address)


@contextmanager
def _one_line_errors(address: str) -> Generator[None]:
    """What Ray's client raises, as a ClusterError that says what to do."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise ClusterError(
            f"Ray at {address} refuses the token. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file that the "
            "cluster was started with."
        ) from None
    except ConnectionError as error:
        raise ClusterError(
            f"no Ray dashboard answers at {address}. Set --address or {ADDRESS_VARIABLE}; `ray dashboard cluster.yaml` "
            f"opens a tunnel to {DEFAULT_ADDRESS}."
        ) from error
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ClusterError(f"Ray at {address} did not take the job: {lines[0][:ERROR_LENGTH]}") from error
