"""What a user is told of a submission, and which addresses are taken; the real cluster is in tests/cluster."""

from __future__ import annotations

import pytest

from rampipe.engine.submit import Submission, describe, job_address
from rampipe.errors import ConfigError

ADDRESS = "http://127.0.0.1:8265"


def test_the_flag_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert job_address(None) == ADDRESS
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:1/")
    assert job_address(None) == "http://head:1"
    assert job_address("https://other:2") == "https://other:2"


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://head:10001", "http://", "http://user:hunter2@head:8265"])
def test_other_addresses_are_refused_without_their_password(address: str) -> None:
    with pytest.raises(ConfigError, match="--address") as caught:
        job_address(address)
    assert "hunter2" not in str(caught.value)


def test_what_is_told() -> None:
    new = Submission("rampipe-speed-0-2", "PENDING", True, ADDRESS, "rampipe-speed-0", "FAILED")
    assert describe(new) == [
        "rampipe-speed-0 is FAILED: it is tried again",
        f"submitted rampipe-speed-0-2 to {ADDRESS}",
        f"  logs: ray job logs rampipe-speed-0-2 --address {ADDRESS}",
        f"  stop: ray job stop rampipe-speed-0-2 --address {ADDRESS}",
    ]
    done = Submission("rampipe-speed-0", "SUCCEEDED", False, ADDRESS)
    assert describe(done) == [
        f"rampipe-speed-0 is SUCCEEDED at {ADDRESS}: the same work, nothing was submitted",
        f"  logs: ray job logs rampipe-speed-0 --address {ADDRESS}",
    ]
