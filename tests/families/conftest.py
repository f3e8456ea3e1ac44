"""The checkpoints, written and loaded once a session, and `--families-table`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rampipe.config import ModelConfig
from rampipe.models.loading import load_replica
from rampipe.models.replica import Replica
from tests.families.builder import Builder
from tests.families.builders import BUILDERS
from tests.families.table import pytest_addoption, pytest_configure

__all__ = ["pytest_addoption", "pytest_configure"]


@pytest.fixture(params=BUILDERS, ids=str, scope="session")
def builder(request: pytest.FixtureRequest) -> Builder:
    return request.param


@pytest.fixture(scope="session")
def replica(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Replica:
    folder = tmp_path_factory.mktemp(builder.model_type)
    builder.write(folder)
    return load_replica(ModelConfig(path=str(folder), dtype="float32"), device="cpu", threads=1)


@pytest.fixture
def verified(builder: Builder, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Says what the table shows for a check when the test passes."""

    def note(check: str, result: str = "yes") -> None:
        record_property("verified", (builder.name, check, result))

    return note
