"""What the terminal shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rampipe.config import RankConfig
from rampipe.heads.rank import rank_run
from rampipe.heads.summary import NUM_SHOWN, print_summary, summary_lines
from rampipe.types import HeadId
from tests.unit.heads.planted import RunShape, Study, planted_masses, write_run

CONFIG = RankConfig(bootstrap_samples=100)
STUDY = Study(planted_masses(24, {HeadId(1, 2): 0.8}), domains=("docs", "films"))


def lines_of(tmp_path: Path, study: Study, *, shape: RunShape | None = None, allow_partial: bool = False) -> list[str]:
    config = CONFIG.model_copy(update={"allow_partial": allow_partial})
    return summary_lines(rank_run(write_run(tmp_path, study, shape).storage.uri, config))


def test_first_heads_and_concentration(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, STUDY)
    rows = [line.split() for line in lines if line.split()[:1] and line.split()[0].isdigit()]
    assert [row[0] for row in rows] == [str(rank) for rank in range(1, NUM_SHOWN + 1)]
    assert rows[0][1] == "1.2"
    assert "100.0%" in rows[0]
    assert rows[0][-1] == "core"
    assert any(line.startswith("docs: half of the positive ram mass sits in ") for line in lines)
    assert any("of 40; 24 samples)" in line for line in lines if line.startswith("overall: half"))
    assert not any("PARTIAL" in line for line in lines)


def test_accuracy_counts_what_has_no_prediction(tmp_path: Path) -> None:
    correct = {index: index % 4 == 0 for index in range(0, 24, 2)}  # docs only: 6 of 12
    lines = lines_of(tmp_path, replace(STUDY, correct=correct))
    assert "docs: accuracy 50.0% (6 of 12)" in lines
    assert "overall: accuracy 50.0% (6 of 12; 12 without a prediction)" in lines
    assert "films: accuracy unknown, no predictions (12 samples)" in lines


def test_partial_run_says_so_first(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, STUDY, shape=RunShape(uncommitted=frozenset({0})), allow_partial=True)
    assert lines[0].startswith("PARTIAL: 2 of 3 units, 16 of 24 samples measured: 1 of 3 units are not committed")


def test_scope_without_mass_says_so(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, replace(STUDY, without_evidence=frozenset(range(1, 24, 2))))
    assert any(line.startswith("films: half of the positive ram mass does not exist") for line in lines)


def test_print_summary_prints_the_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranking = rank_run(write_run(tmp_path, STUDY).storage.uri, CONFIG)
    print_summary(ranking)
    assert capsys.readouterr().out.splitlines() == summary_lines(ranking)
