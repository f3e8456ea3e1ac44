"""The rank job's flags: what they refuse, and that it needs neither torch nor Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.rank import main
from tests.unit.heads.planted import RunShape, Study, planted_masses, write_run

STUDY = Study(planted_masses(16, {}, shape=(2, 3)))
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--until-stable", "0.95"], "reads them in the order of the dataset"),
        (["--until-stable", "1.5"], "stop.level"),
        (["--set", "stop.seed=1"], "only with --until-stable"),
        (["another", "--until-stable", "0.95"], "2 runs were given"),
        (["--set", "capture.calibrate=true"], "reads only rank.* keys"),
        (["--set", "rank.task_units=0"], "rank.task_units"),
    ],
)
def test_what_does_not_go_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    run = write_run(tmp_path, STUDY, RunShape(uncommitted=frozenset({1})))
    assert main([run.storage.uri, *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_finished_run_is_ranked_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([write_run(tmp_path, STUDY).storage.uri, "--until-stable", "0.95"]) == 0
    assert "16 samples" in capsys.readouterr().out


def test_ranking_needs_neither_torch_nor_ray(tmp_path: Path) -> None:
    run = write_run(tmp_path, STUDY)
    code = "import sys; sys.modules.update(dict.fromkeys(('torch', 'ray', 'transformers'))); from jobs.rank import main"
    arguments = [run.storage.uri, "--set", "rank.bootstrap_samples=20"]
    for flags, expected in ((arguments, 0), ([*arguments, "--distributed", "--set", "rank.task_units=1"], 2)):
        found = subprocess.run(
            [sys.executable, "-c", f"{code}; sys.exit(main({flags!r}))"],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert found.returncode == expected, found.stderr
    assert "rank.distributed needs Ray" in found.stderr
