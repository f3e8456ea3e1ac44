"""The use: with full attention for the first 5 to 10 % of heads alone the model finds the needle, with others not."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rampipe.config import RankConfig
from rampipe.engine.plan import count_kv_heads
from rampipe.heads.plan import make_plan
from rampipe.heads.rank import rank_run
from rampipe.heads.verdict.judge import judge
from rampipe.tables.read import open_run
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from tests.ablated import finished_ablation
from tests.local_run import finished_run, make_config

SETTINGS = (
    "speed.full_fracs=[0.0,0.05,0.1]",
    "speed.seeds=2",
    "speed.sink_tokens=4",
    "speed.window_tokens=8",
    "speed.dense_below_tokens=0",
)


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder = tmp_path_factory.mktemp("hybrid")
    write_samples(folder / "samples", split="select", count_per_domain=8, seed=0)
    write_samples(folder / "samples", split="eval", count_per_domain=8, seed=0)
    overrides = ["data.split=select", "capture.predict_tokens=3", "cluster.threads_per_replica=1", *SETTINGS]
    config = make_config(model=Path(weights_path()), data=folder / "samples", out=folder / "runs", overrides=overrides)
    run_uri = finished_run(config)
    plan = make_plan(rank_run(run_uri, RankConfig(bootstrap_samples=50)), config.speed, kv_heads=count_kv_heads(config))
    run = finished_ablation(config, run_uri, plan, folder="speed/answers", split="eval")
    table, _ = judge(open_run(run.storage.uri).outcomes, plan, bootstrap_samples=50)
    return table.filter(pl.col("scope") == "overall")


def costs(accuracy: pl.DataFrame, strategy: str) -> list[float]:
    """Accuracy lost to the base by each arm of a strategy that keeps some heads."""
    arms = accuracy.filter((pl.col("strategy") == strategy) & (pl.col("num_heads") > 0))
    return (-arms.get_column("difference")).to_list()


def test_the_first_heads_are_enough(accuracy: pl.DataFrame) -> None:
    assert accuracy.filter(pl.col("strategy") == "base").item(0, "accuracy") >= 0.95
    assert len(costs(accuracy, "top")) == 2
    assert max(costs(accuracy, "top")) <= 0.02


@pytest.mark.parametrize(("strategy", "num_arms"), [("random", 4), ("bottom", 2)])
def test_as_many_other_heads_are_not(accuracy: pl.DataFrame, strategy: str, num_arms: int) -> None:
    assert len(costs(accuracy, strategy)) == num_arms
    assert min(costs(accuracy, strategy)) > 0.20


def test_no_head_at_all_is_not(accuracy: pl.DataFrame) -> None:
    (none,) = accuracy.filter((pl.col("kind") == "keep") & (pl.col("num_heads") == 0)).iter_rows(named=True)
    assert none["difference"] < -0.20
    assert none["log_prob_difference"] < -1.0
