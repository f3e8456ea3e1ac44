"""A complete run and its page, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rampipe.report.page import write_report
from tests.unit.report.made_run import make_run, publish_examples, rank
from tests.unit.report.reading import Page


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished, ranked run with examples and a report."""
    run = make_run(tmp_path_factory.mktemp("complete"))
    rank(run)
    publish_examples(run, sample_ids=["sample-0", "sample-3"])
    write_report(run.storage.uri)
    return Path(run.storage.uri)


@pytest.fixture(scope="session")
def page(complete: Path) -> Page:
    return Page((complete / "report" / "index.html").read_text(encoding="utf-8"))
