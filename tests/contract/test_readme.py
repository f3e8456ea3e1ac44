"""What the README and the docs show runs: every Python block, every job name, every link."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from rampipe.config import RankConfig
from rampipe.heads.rank import rank_run
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from tests.local_run import finished_run, make_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^ *```{language}\n(.*?)^ *```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("readme")
    write_samples(folder / "samples", split="select", count_per_domain=3, seed=3)
    config = make_config(
        model=weights_path(), data=folder / "samples", out=folder / "runs", overrides=["capture.predict_tokens=3"]
    )
    uri = finished_run(config)
    rank_run(uri, RankConfig(bootstrap_samples=20))
    return uri


def test_the_queries_of_the_readme_run(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    exec(compile(code.replace('"RUN"', repr(run)), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "shape: (10, 6)" in printed
    assert "mass_evidence" in printed


def test_the_run_is_a_hugging_face_dataset(run: str, tmp_path: Path) -> None:
    import datasets

    rows = datasets.load_dataset(run, "head_stats", cache_dir=str(tmp_path))
    assert next(iter(rows.values())).num_rows == 12 * 2 * 96


def test_the_sample_of_the_docs_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (640, 800), "white").save("page.png")
    (code,) = blocks(ROOT / "docs" / "samples.md", "python")
    exec(compile(code, "samples.md", "exec"), {})
    (shard,) = Path("samples").glob("eval-*.parquet")
    assert pq.read_table(shard).column("sample_id").to_pylist() == ["invoice-17-total"]


def test_configurations_of_the_readme_are_valid(tmp_path: Path) -> None:
    from rampipe.config import load_config

    (text,) = blocks(ROOT / "README.md", "toml")
    (tmp_path / "my.toml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "my.toml").model.path == "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_jobs_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    local = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert [link for link in local if not (page.parent / link).exists()] == []
    jobs = set(re.findall(r"-m jobs\.(\w+)", text))
    assert {job for job in jobs if not (ROOT / "jobs" / f"{job}.py").exists()} == set()


@pytest.mark.parametrize("name", ["ablate", "capture", "needles", "pipeline", "rank", "report", "speed"])
def test_every_job_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib

    main: Callable[[list[str]], int] = importlib.import_module(f"jobs.{name}").main
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "examples:" in capsys.readouterr().out
