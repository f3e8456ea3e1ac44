"""The claim: without its first 5 % of heads the model cannot find the needle, without as many others it can."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from jobs.ablate import main
from rampipe.config import AblateConfig, RankConfig, RunConfig
from rampipe.engine.plan import count_kv_heads
from rampipe.heads.plan import make_plan
from rampipe.heads.rank import rank_run
from rampipe.heads.verdict.judge import judge
from rampipe.tables.read import open_run
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from tests.ablated import finished_ablation
from tests.local_run import finished_run, make_config

COUNT = 24
NUM_SAMPLES = 4 * COUNT
TOLERANCE = 2 / NUM_SAMPLES


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("ablation")
    for split in ("select", "eval"):
        write_samples(folder / "samples", split=split, count_per_domain=COUNT, seed=0)
    overrides = ["data.split=select", "ablate.split=eval", "capture.predict_tokens=4", "ablate.fracs=[0.05]"]
    overrides += ["ablate.seeds=3", "ablate.strategies=['top','bottom','layer_matched_random']"]
    return make_config(model=Path(weights_path()), data=folder / "samples", out=folder / "runs", overrides=overrides)


@pytest.fixture(scope="module")
def run_uri(config: RunConfig) -> str:
    return finished_run(config)


@pytest.fixture(scope="module")
def accuracy(config: RunConfig, run_uri: str) -> pl.DataFrame:
    ranking = rank_run(run_uri, RankConfig(bootstrap_samples=50))
    plan = make_plan(ranking, config.ablate, kv_heads=count_kv_heads(config))
    run = finished_ablation(config, run_uri, plan)
    table, _ = judge(open_run(run.storage.uri).outcomes, plan, bootstrap_samples=100)
    return table.filter(pl.col("scope") == "overall")


def of(accuracy: pl.DataFrame, strategy: str) -> float:
    mean = accuracy.filter(pl.col("strategy") == strategy).get_column("accuracy").mean()
    assert isinstance(mean, float)
    return mean


def test_top_heads_carry_the_answers_and_others_do_not(accuracy: pl.DataFrame) -> None:
    assert accuracy.get_column("num_samples").unique().to_list() == [NUM_SAMPLES]
    base = of(accuracy, "base")
    assert base >= 0.95
    assert of(accuracy, "top") <= 0.10
    assert of(accuracy, "bottom") >= base - 0.02 - TOLERANCE
    assert of(accuracy, "layer_matched_random") >= base - 0.05


def test_heads_judged_on_the_samples_that_chose_them_are_refused(
    config: RunConfig, run_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shard in Path(config.data.path).glob("select-*"):
        shutil.copy(shard, shard.with_name(shard.name.replace("select-", "copy-")))
    lines = [f'[model]\npath = "{config.model.path}"\ndtype = "float32"']
    lines += [f'[data]\npath = "{config.data.path}"\nsplit = "select"']
    lines += ['[capture]\npredict_tokens = 4\n[ablate]\nsplit = "copy"\nfracs = [0.05]\nseeds = 1']
    (tmp_path / "run.toml").write_text("\n".join(lines))
    assert main([run_uri, "--config", str(tmp_path / "run.toml"), "--set", "rank.bootstrap_samples=50"]) == 2
    assert "96 of 96 evaluated samples made the ranking" in capsys.readouterr().err


def test_ablate_is_off_unless_a_split_is_named() -> None:
    assert AblateConfig().split is None
