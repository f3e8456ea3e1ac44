from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rampipe.cli import main
from rampipe.tables.run import Run, create_run
from rampipe.tables.verify import row_set_hash
from tests.unit.tables.synthetic import capture, commit, spec


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return capture(str(tmp_path))


def test_verify_prints_the_hash_of_a_good_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", run.storage.uri]) == 0
    assert f"row-set hash: {row_set_hash(run.storage)}" in capsys.readouterr().out


def test_damage_is_printed_and_repaired(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(Path(run.storage.uri) / "samples/unit-000001.parquet", 10)
    assert main(["verify", run.storage.uri]) == 1
    out = capsys.readouterr().out
    assert "samples/unit-000001.parquet: 10 bytes" in out
    assert "units: 2 of 3 intact" in out
    assert main(["repair", run.storage.uri]) == 0
    assert "moved: samples/unit-000001.parquet" in capsys.readouterr().out
    assert main(["status", run.storage.uri]) == 1
    assert "units: 2 of 3" in capsys.readouterr().out


def test_status_counts_from_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = create_run(str(tmp_path), spec())
    commit(run, run.units[2])
    assert main(["status", run.storage.uri]) == 1
    out = capsys.readouterr().out
    assert "units: 1 of 3\nsamples: 3 ok, 1 errors of 12\nrows: 36\n" in out
    assert "finished: no" in out
    capture(str(tmp_path))
    assert main(["status", run.storage.uri]) == 0
    assert "finished: yes" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "status", "repair"])
def test_a_folder_that_is_no_run_is_one_line(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"error: {tmp_path}: no run.json" in captured.err


def test_a_wrong_command_line_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["verify"], ["nonsense"]):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    assert "rampipe verify s3://bucket" in capsys.readouterr().out


def test_python_m_rampipe_is_the_same_command(run: Run) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "rampipe", "status", run.storage.uri],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "units: 3 of 3" in made.stdout
