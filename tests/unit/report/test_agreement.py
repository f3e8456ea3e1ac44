"""The section of agreement, and the commands that bring lists in and out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rampipe.cli import main
from rampipe.heads.lists.run_lists import ranked_means
from rampipe.report.page import write_report
from rampipe.tables.storage import open_storage
from tests.unit.report.made_run import make_run, rank
from tests.unit.report.reading import Page


@pytest.fixture
def uri(tmp_path: Path) -> str:
    run = make_run(tmp_path)
    rank(run)
    return run.storage.uri


def page(uri: str) -> Page:
    return Page(Path(write_report(uri)).read_text(encoding="utf-8"))


def test_our_own_list_agrees_and_a_reversed_one_does_not(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "None to compare with" in page(uri).text("agreement")
    ours = tmp_path / "ours.json"
    assert main(["heads", "export", uri, str(ours), "--format", "head_score"]) == 0
    scores = json.loads(ours.read_text())
    reverse = tmp_path / "reverse.json"
    reverse.write_text(json.dumps({name: [-value for value in values] for name, values in scores.items()}))
    for file in (ours, reverse):
        assert main(["heads", "import", uri, str(file), "--format", "head_score"]) == 0
    shown = page(uri)  # twin: the page is made again, for the lists alone
    assert shown.problems == []
    rows = {row[0]: row for row in shown.table("agreement")}
    assert rows["ours"][5] == rows["ours"][7] == "1.00"
    assert rows["reverse"][7] == "-1.00"
    assert float(rows["reverse"][5]) < 1.0
    means = {head: mean for head, mean in ranked_means(open_storage(uri)).items() if mean is not None}
    best = max(sorted(means), key=lambda head: means[head])
    assert f"heads = ['{best}'" in capsys.readouterr().out


def test_a_list_of_another_model_is_refused(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"61-3": [0.5]}')
    assert main(["heads", "import", uri, str(file), "--format", "head_score"]) == 2
    assert "head 61-3 is outside the model" in capsys.readouterr().err
    assert main(["heads", "import", uri, str(tmp_path / "none.json"), "--format", "plain"]) == 2
    assert main(["heads", "import", uri, str(file), "--format", "head_score", "--name", "../up"]) == 2
    assert main(["heads", "import", str(tmp_path / "nothing"), str(file), "--format", "head_score"]) == 2
    assert "None to compare with" in page(uri).text("agreement")
