"""The paper's folder by its one command on a real Ray: small random models of three families, a few rows of each
dataset.
"""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from jobs.experiments import load_experiments
from jobs.pipeline import main
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import verify
from tests.paper_stand_ins import PAPER, SMALL, write_stand_ins

# One fixture runs the whole folder; the limit is for what hangs, and stands well above what a busy machine needs.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

QWEN, LLAVA, INTERNVL = (
    *("Qwen/Qwen3-VL-8B-Instruct", "llava-hf/llava-onevision-qwen2-7b-ov-hf", "OpenGVLab/InternVL3_5-8B-HF"),
)
MODELS = {"refcocog": LLAVA, "vidstg": INTERNVL, "mlvu": INTERNVL}
"""Model by file, others Qwen: a file's own list would take each of them through all five."""
LENGTHS = ("8k", "32k")


@dataclass(frozen=True)
class Finished:
    """A folder of files that was run once. printed: what the command said."""

    configs: Path
    runs: Path
    exit_code: int
    printed: str


def run(configs: Path, out: Path) -> int:
    changes = [flag for change in SMALL for flag in ("--set", change)]
    return main(["--config", str(configs), "--out", str(out), *changes])


def write_configs(folder: Path) -> Path:
    """The paper's files with one model each and paths below `folder`: actors do not share the directory of a test."""
    configs = folder / "paper"
    configs.mkdir()
    for file in PAPER.iterdir():
        text = file.read_text(encoding="utf-8")
        text = re.sub(r'"model.path" = \[.*?\]', f'"model.path" = ["{MODELS.get(file.stem, QWEN)}"]', text, flags=re.S)
        lengths = ", ".join(f'"data/needles/{length}"' for length in LENGTHS)
        text = re.sub(r'"data.path" = \[.*?\]', f'"data.path" = [{lengths}]', text)
        splits = ", ".join(f'"mm_niah_retrieval-image/{length}"' for length in LENGTHS)
        text = re.sub(r'"data.split" = \[.*?\]', f'"data.split" = [{splits}]', text)
        text = re.sub(r'"(data|Qwen|llava-hf|OpenGVLab)/', rf'"{folder}/\1/', text)
        (configs / file.name).write_text(text, encoding="utf-8")
    return configs


@pytest.fixture(scope="module")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    del local_ray
    folder = tmp_path_factory.mktemp("paper")
    configs = write_configs(folder)
    write_stand_ins(folder, load_experiments(configs))
    with redirect_stdout(io.StringIO()) as printed:
        exit_code = run(configs, folder / "runs")
    return Finished(configs, folder / "runs", exit_code, printed.getvalue())


def test_every_file_runs_to_its_report(finished: Finished) -> None:
    experiments = load_experiments(finished.configs)
    assert (finished.exit_code, len(experiments)) == (0, len(list(PAPER.glob("*.toml"))) + 2 * (len(LENGTHS) - 1))
    assert finished.printed.count("\nreport: ") == len(experiments)
    pages = {page.stem for page in (finished.runs / "reports").glob("*.html")}
    assert pages == {one.name.replace(" · ", "--") for one in experiments}
    assert f"experiments: {len(experiments)} of {len(experiments)} done" in finished.printed


def test_every_run_is_whole_and_silenced_and_timed_where_its_file_says_so(finished: Finished) -> None:
    runs = [path.parent for path in finished.runs.rglob("run.json")]
    assert [verify(open_storage(str(run))).problems for run in runs] == [()] * len(runs)
    errors = [path for run in runs for path in (run / "errors").glob("*.parquet")]
    assert pl.concat([pl.read_parquet(path) for path in errors]).is_empty()
    experiments = load_experiments(finished.configs)
    for stage, section in (("ablation", "ablate"), ("speed/answers", "speed"), ("speed/timings", "speed")):
        wanted = sum(getattr(one.config, section).split is not None for one in experiments)
        assert len(list(finished.runs.glob(f"*/{stage}/*/_SUCCESS.json"))) == wanted, stage


def test_lengths_are_compared(finished: Finished) -> None:
    lines = [line for line in finished.printed.splitlines() if "heads shared" in line]
    assert [line.partition(": ")[0] for line in lines] == [
        f"{name} · Qwen3-VL-8B-Instruct · 8k | {name} · Qwen3-VL-8B-Instruct · 32k"
        for name in ("needles", "niah_lengths")
    ]


def test_a_second_time_nothing_is_computed(finished: Finished) -> None:
    before = units_and_pages(finished.runs)
    assert run(finished.configs, finished.runs) == 0
    assert units_and_pages(finished.runs) == before


def units_and_pages(runs: Path) -> dict[str, int | bytes]:
    """When each file of a unit was written, and the pages themselves."""
    units = {str(path): path.stat().st_mtime_ns for path in runs.rglob("unit-*")}
    return {**units, **{str(path): path.read_bytes() for path in runs.glob("reports/*.html")}}
