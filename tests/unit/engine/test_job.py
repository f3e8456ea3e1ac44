"""The same work has the same name and carries its whole configuration; anything else has another name."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from rampipe.config import RunConfig, load_config
from rampipe.engine.job import SHIPPED, Job, make_job
from rampipe.errors import ConfigError


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    for name in SHIPPED:
        (folder / name).mkdir(parents=True)
        (folder / name / "code.py").write_text(f"# {name}\n", encoding="utf-8")
    (folder / ".env").write_text("HF_TOKEN=secret\n", encoding="utf-8")
    (folder / "notes [old].txt").write_text("", encoding="utf-8")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "select-00000.parquet").write_bytes(b"rows")
    return folder


def config_of(folder: Path, *overrides: str) -> RunConfig:
    return load_config(
        None, ["model.path=hub/model", f"data.path={folder.parent / 'samples'}", "out=s3://bucket/runs", *overrides]
    )


def job_of(checkout: Path, *overrides: str, stage: str = "pipeline") -> Job:
    return make_job(stage, config_of(checkout, *overrides), folder=checkout)


def test_the_same_work_has_the_same_name(checkout: Path) -> None:
    job = job_of(checkout)
    assert job == job_of(checkout) == job_of(checkout, "rank.k_frac=0.05")  # the default, spelled out
    start, stage, digits = job.name.split("-")
    assert (start, stage, len(digits)) == ("rampipe", "pipeline", 12)
    int(digits, 16)


@pytest.mark.parametrize("override", ["rank.k_frac=0.1", "data.limit=3", "out=s3://bucket/others", "ablate.split=eval"])
def test_another_configuration_is_other_work(checkout: Path, override: str) -> None:
    assert job_of(checkout, override).name != job_of(checkout).name


def test_another_stage_run_code_or_sample_is_other_work(checkout: Path) -> None:
    config = config_of(checkout)
    names = {job_of(checkout).name, job_of(checkout, stage="capture").name}
    names |= {make_job("ablate", config, runs=[run], folder=checkout).name for run in ("s3://b/one", "s3://b/two")}
    (checkout / "jobs" / "code.py").write_text("# another\n", encoding="utf-8")
    names.add(job_of(checkout).name)
    os.utime(checkout.parent / "samples" / "select-00000.parquet", ns=(1, 1))
    names.add(job_of(checkout).name)
    assert len(names) == 6
    (checkout / "notes [old].txt").write_text("does not travel", encoding="utf-8")
    assert job_of(checkout).name in names


def test_the_command_holds_the_whole_configuration(checkout: Path) -> None:
    overrides = [
        'data.source="sämples\\n\\"quoted\\" \\\\ $HOME"',
        "ablate.bands=[[0.05, 0.1]]",
        "ablate.fracs=[0.0, 1e-5]",
        "capture.calibrate=false",
        "speed.split=eval",
    ]
    config = config_of(checkout, *overrides)
    words = shlex.split(make_job("speed", config, runs=["s3://b/my run"], folder=checkout).entrypoint)
    assert words[:4] == ["python", "-m", "jobs.speed", "s3://b/my run"]
    assert set(words[4::2]) == {"--set"}
    assert load_config(None, words[5::2]) == config
    assert load_config(None, words[5:-2:2]) != config


def test_only_the_code_travels(checkout: Path) -> None:
    assert job_of(checkout).excludes == ("/.env", "/notes\\ \\[old\\].txt")


def test_paths_that_mean_another_place_there_are_refused(checkout: Path) -> None:
    for override, key in (("out=runs", "out 'runs'"), ("data.path=samples", "data.path 'samples'")):
        with pytest.raises(ConfigError, match=f"{key} is relative"):
            job_of(checkout, override)
    with pytest.raises(ConfigError, match="RUN runs/one 'runs/one' is relative"):
        make_job("ablate", config_of(checkout), runs=["runs/one"], folder=checkout)
    (checkout / "models").mkdir()
    with pytest.raises(ConfigError, match=r"model.path 'models' is a folder that does not travel"):
        job_of(checkout, "model.path=models")
    assert "model.path" in job_of(checkout, "model.path=rampipe").entrypoint
    # A run says where it is: `out` is not used.
    assert make_job("ablate", config_of(checkout, "out=runs"), runs=["/runs/one"], folder=checkout).name


def test_a_folder_without_the_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    with pytest.raises(ConfigError, match="no folder 'jobs'"):
        make_job("pipeline", config_of(tmp_path / "checkout"), folder=tmp_path)
