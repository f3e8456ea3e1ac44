"""Several experiments around stages that are done: one that fails is named at the end and stops no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.experiments import load_experiments
from jobs.pipeline import main
from jobs.several import run_several
from tests.unit.jobs.conftest import Captured, files_of

pytestmark = pytest.mark.usefixtures("no_cluster")

SECTION = "[experiment]\nsamples = 12\ntokens = 80\n"


@pytest.fixture
def folder(captured: Captured, tmp_path: Path) -> Path:
    """`a` cannot run, as its data is not there; `b` is captured already."""
    text = captured.file.read_text(encoding="utf-8").partition("[ablate]")[0] + SECTION
    (tmp_path / "b.toml").write_text(text, encoding="utf-8")
    gone = text.replace("/samples", "/nowhere")
    (tmp_path / "a.toml").write_text(gone, encoding="utf-8")
    return tmp_path


def test_the_others_run_and_the_failed_one_is_named_last(
    folder: Path, captured: Captured, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(folder)]) == 1
    printed = capsys.readouterr()
    assert f"report: {captured.uri}/report/index.html" in printed.out
    assert "experiments: 1 of 2 done" in printed.out
    assert printed.err.splitlines()[-1] == "failed: a"
    assert "nowhere" in printed.err
    (folder / "a.toml").unlink()
    before = files_of(captured.uri)
    assert main(["--config", str(folder)]) == 0
    assert "failed" not in capsys.readouterr().err
    after = files_of(captured.uri)
    assert {path for path in after if after[path] != before.get(path)} == {f"{captured.uri}/README.md"}


def test_a_bug_in_one_costs_no_other(folder: Path, captured: Captured, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(folder / "b.toml")]) == 0
    seen: list[str] = []

    def run_stages(one, others):
        del others
        seen.append(one.name)
        if one.name == "a":
            raise ZeroDivisionError("a bug")
        return captured.uri, True

    capsys.readouterr()
    assert run_several(load_experiments(folder), run_stages) == 1
    assert seen == ["a", "b"]
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def test_work_that_is_left_undone_is_a_failure(folder: Path, captured: Captured) -> None:
    assert main(["--config", str(folder / "b.toml")]) == 0
    found = load_experiments(folder / "b.toml")
    assert run_several(found, lambda *_: (captured.uri, True)) == 0
    assert run_several(found, lambda *_: (captured.uri, False)) == 1


def test_a_report_is_kept_by_name(folder: Path, captured: Captured) -> None:
    assert main(["--config", str(folder / "b.toml")]) == 0
    page = Path(captured.uri, "report/index.html").read_bytes()
    assert Path(captured.uri).with_name("reports").joinpath("b.html").read_bytes() == page


def test_an_override_leaves_one_value_of_what_varies(folder: Path) -> None:
    text = (folder / "b.toml").read_text(encoding="utf-8")
    (folder / "b.toml").write_text(f'{text}[experiment.vary]\n"model.path" = ["x/one", "x/two"]\n', encoding="utf-8")
    assert [one.name for one in load_experiments(folder / "b.toml")] == ["b · one", "b · two"]
    assert [one.name for one in load_experiments(folder / "b.toml", ["model.path=x/two"])] == ["b · two"]
    assert [one.name for one in load_experiments(folder / "b.toml", ["model.path=x/three"])] == ["b · three"]
