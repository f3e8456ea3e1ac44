"""The last link: the page is about the tables that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from rampipe.cli import main
from rampipe.report.audit import report_problems
from rampipe.report.page import write_report
from tests.unit.tables.synthetic import capture


def test_a_page_of_other_tables_is_named_by_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = capture(str(tmp_path))
    assert report_problems(run.storage.uri) == ()
    write_report(run.storage.uri)
    assert report_problems(run.storage.uri) == ()
    assert main(["verify", run.storage.uri]) == 0
    success = "report/_SUCCESS.json"
    content = run.storage.read(success)
    run.storage.replace(success, content.replace(b'"made_from": "', b'"made_from": "0'))
    assert main(["verify", run.storage.uri]) == 1
    assert "report/_SUCCESS.json: the page was made from other tables" in capsys.readouterr().out
    run.storage.replace(success, b"{")
    assert "report/_SUCCESS.json: damaged" in "".join(report_problems(run.storage.uri))
    run.storage.replace(success, content)
    run.storage.replace("report/index.html", run.storage.read("report/index.html") + b" ")
    assert main(["verify", run.storage.uri]) == 1
    assert "report/index.html: has changed since it was written" in capsys.readouterr().out
