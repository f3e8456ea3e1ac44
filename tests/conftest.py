"""Shared by all tests: shapes and types of `rampipe` are checked at run time, Ray stays on loopback, no network."""

from __future__ import annotations

import os
from pathlib import Path

from tests.checked_imports import check_imports

check_imports()  # before any import of rampipe

# Before any import of ray: listeners of a local cluster bind to 127.0.0.1 only (otherwise 0.0.0.0), and its workers are
# no nicer than the tests that wait for them.
os.environ.update(
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    RAY_worker_niceness="0",
    RAY_USAGE_STATS_ENABLED="0",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
)

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests.faults.table import pytest_addoption, pytest_configure  # noqa: E402

__all__ = ["pytest_addoption", "pytest_configure"]

settings.register_profile("untimed", deadline=None)  # a machine may be busy
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the real-data slices; the test is skipped, with the reason printed, where it is missing."""
    folder = Path(os.environ.get("RAMPIPE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set RAMPIPE_REAL_DATA to a folder that has sroie/ and omniglot_needle/")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several processes, `--dist loadgroup`: what shares a fixture stays together, and one of them starts Ray."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))


def group_of(item: pytest.Item) -> str:
    """Of a test: all that need Ray, all of one model, or else its file."""
    if item.get_closest_marker("cluster"):
        return "cluster"
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return str(parameters.get("builder", item.path.relative_to(ROOT)))
