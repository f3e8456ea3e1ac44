"""Several experiments around stages that are done: one that fails is named at the end and stops no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.arms import plan_arms
from jobs.experiments import load_experiments
from jobs.pipeline import main
from jobs.several import run_several
from rampipe.config import load_config
from rampipe.heads.rank import rank_run
from rampipe.tables.derived import stage_files
from rampipe.tables.storage import open_storage
from tests.ablated import finished_ablation
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

    def run_stages(one, others, shared):
        del others, shared
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


def test_experiments_on_one_run_do_not_show_in_each_others_reports(captured: Captured, tmp_path: Path) -> None:
    text = captured.file.read_text(encoding="utf-8").partition("[speed]")[0]
    (tmp_path / "a.toml").write_text(text.partition("[ablate]")[0] + SECTION, encoding="utf-8")
    (tmp_path / "b.toml").write_text(f'{text}{SECTION}ranked_on = "a.toml"\n', encoding="utf-8")
    config, storage = load_config(tmp_path / "b.toml"), open_storage(captured.uri)
    ranking = rank_run(captured.uri, config.rank)
    finished_ablation(config, captured.uri, plan_arms(config, config.ablate, ranking))
    reports = Path(captured.uri).with_name("reports")
    seen = []
    for _ in range(2):
        assert main(["--config", str(tmp_path)]) == 0
        assert set(stage_files(storage, "ablation")) == {"accuracy", "arms"}
        seen.append([(reports / f"{name}.html").read_bytes() for name in "ab"])
    assert seen[0] == seen[1]
    assert [b"No ablation" in page for page in seen[0]] == [True, False]


def test_an_override_leaves_one_value_of_what_varies(folder: Path) -> None:
    text = (folder / "b.toml").read_text(encoding="utf-8")
    (folder / "b.toml").write_text(f'{text}[experiment.vary]\n"model.path" = ["x/one", "x/two"]\n', encoding="utf-8")
    assert [one.name for one in load_experiments(folder / "b.toml")] == ["b · one", "b · two"]
    assert [one.name for one in load_experiments(folder / "b.toml", ["model.path=x/two"])] == ["b · two"]
    assert [one.name for one in load_experiments(folder / "b.toml", ["model.path=x/three"])] == ["b · three"]
