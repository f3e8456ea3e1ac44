"""A dashboard that others reach is refused unless it asks for a token."""

from __future__ import annotations

import pytest

from rampipe.engine.exposure import refuse_exposed
from rampipe.engine.job import Job
from rampipe.engine.submit import submit
from rampipe.errors import ClusterError

LOOPBACK = ["127.0.0.1:8265", "http://127.0.0.1:8265", "localhost:8265", "http://[::1]:8265", "127.0.0.2"]
EXPOSED = [
    "0.0.0.0:8265",
    "10.0.0.1:8265",
    "http://head.example.org:8265",
    "[::]:8265",
    "http://localhost.evil.org",
    "",
]


@pytest.mark.fault("B25")
@pytest.mark.parametrize("address", EXPOSED)
def test_an_exposed_dashboard_without_a_token_is_refused(address: str) -> None:
    with pytest.raises(ClusterError, match=r"token authentication is off.*RAY_AUTH_MODE=token"):
        refuse_exposed(address, has_token=False)
    refuse_exposed(address, has_token=True)


@pytest.mark.fault("B25")
@pytest.mark.parametrize("address", LOOPBACK)
def test_a_dashboard_on_loopback_needs_no_token_of_ours(address: str) -> None:
    refuse_exposed(address, has_token=False)


@pytest.mark.fault("B25")
@pytest.mark.parametrize("mode", [None, "disabled"])
def test_nothing_is_submitted_to_an_exposed_dashboard_without_a_token(
    tmp_path, monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    job = Job("rampipe-capture-000000000000", "true", tmp_path, ())
    with pytest.raises(ClusterError, match=r"192\.0\.2\.1:8265 can be reached by others"):
        submit(job, address="http://192.0.2.1:8265")
