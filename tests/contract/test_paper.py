"""The paper's experiments: every file is valid, plans, and runs from files to tables on a small stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.experiments import (
    comparisons,
    count_arms,
    forecast_experiment,
    load_experiments,
    plan_lines,
    read_shapes,
    shape_of,
)
from jobs.pipeline import main
from rampipe.config import RankConfig, RunConfig, load_config
from rampipe.data import SOURCES
from rampipe.engine.plan import count_kv_heads
from rampipe.engine.rates import Rate, Rates, read_rates
from rampipe.errors import ConfigError
from rampipe.heads.metrics import check_captured
from rampipe.heads.plan import make_plan
from rampipe.heads.rank import Ranking, rank_run
from rampipe.heads.verdict.judge import judge
from rampipe.models.families import find_family
from rampipe.tables.read import open_run
from rampipe.testbed.dataset import write_samples
from tests.ablated import finished_ablation
from tests.families.builders import BUILDERS
from tests.local_run import finished_run
from tests.unit.data.layouts import LAYOUTS

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "jobs" / "configs" / "paper"
FILES = sorted(path.name for path in PAPER.glob("*.toml"))
RATES = ROOT / "benchmarks" / "rates.json"
FAMILIES = ("Qwen3-VL", "LLaVA-OneVision", "InternVL 3.5")


def test_the_grid_is_three_scales_and_three_families_of_known_datasets() -> None:
    found, shapes = load_experiments(PAPER), read_shapes(PAPER)
    assert {one.config.data.source for one in found} <= {source.name for source in SOURCES}
    families = {find_family(shape_of(one, shapes).model_type) for one in found}
    assert len(families) == 3
    for file in FILES:
        models = {one.config.model.path for one in found if one.file.name == file}
        assert models == set(shapes)
        assert sum("Qwen3-VL" in model for model in models) == 3
    for one in found:
        ranked = one.ranked_on or one.config
        check_captured(ranked.rank.metric, ranked.capture)
        assert (one.ranked_on is None) == (one.config.ablate.split is None)
        assert ranked.model == one.config.model


@pytest.mark.parametrize("file", ["needles.toml", "niah_lengths.toml"])
def test_needles_compare_the_lengths_of_each_model(file: str) -> None:
    groups = comparisons(load_experiments(PAPER / file))
    assert len(groups) == 5
    for group in groups:
        assert len({(one.config.data.path, one.config.data.split) for one in group}) == 5
        assert len({one.config.model.path for one in group}) == 1


def test_plan_names_what_was_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(PAPER), "--plan", "--rates", str(RATES)]
    assert main([*arguments, "--device", "NVIDIA H200"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("GPU-hours") == len(load_experiments(PAPER))
    assert printed.count("not measured on NVIDIA H200; above") == printed.count("GPU-hours")
    assert main([*arguments, "--device", "TPU"]) == 0
    assert "TPU: run benchmarks/rates.py there" in capsys.readouterr().out


def test_a_measured_rate_is_used_for_its_own_model_and_device_only() -> None:
    one, shapes = load_experiments(PAPER / "refcocog.toml")[0], read_shapes(PAPER)
    measured = Rate(
        device="GPU", model=one.config.model.path, dtype="bfloat16", prompt_tokens=400, tokens_per_s=1000.0,
        num_samples=9, command="c", versions={}, date="2026-01-01",
    )  # fmt: skip
    rates = Rates(version=1, measured=(measured,))
    shape = shape_of(one, shapes)
    hours = forecast_experiment(one, shape).num_tokens / 1000 / 3600
    assert f"{hours:,.1f} h on GPU" in "\n".join(plan_lines(one, shape, rates, device="GPU"))
    assert "not measured" in "\n".join(plan_lines(one, shape, rates, device="other GPU"))
    other = load_experiments(PAPER / "refcocog.toml")[1]
    assert "not measured" in "\n".join(plan_lines(other, shape, rates, device="GPU"))


def test_the_table_of_rates_is_what_its_model_says(tmp_path: Path) -> None:
    assert read_rates(RATES).measured
    (tmp_path / "rates.json").write_text('{"version": 1, "measured": [{"device": "x"}]}')
    with pytest.raises(ConfigError, match=r"measured\.0\.model"):
        read_rates(tmp_path / "rates.json")


def test_a_wrong_section_is_named(tmp_path: Path) -> None:
    text = (PAPER / "refcocog.toml").read_text().replace("[experiment]\n", "[experiment]\nsample = 1\n")
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"experiment\.sample"):
        load_experiments(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="Pass a file or a folder"):
        load_experiments(tmp_path / "empty")


def stand_in(file: str, folder: Path, *, family: str) -> list[str]:
    """What replaces model, data and place of a file's own."""
    model, data = folder / "model", folder / "data" / file
    if not model.exists():
        model.mkdir()
        next(one for one in BUILDERS if one.name == family).write(model)
    source = load_config(PAPER / file).data.source
    if source == "samples":
        write_samples(data, split="select", count_per_domain=1, seed=0)
    else:
        LAYOUTS[source](data)
    small = ["model.dtype=float32", "cluster.gpus_per_replica=0", f"out={folder / 'runs'}"]
    return [f"model.path={model}", f"data.path={data}", *small, "evidence.min_overlap=0"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("file", FILES)
def test_each_file_runs_on_a_small_model_of_each_family(file: str, family: str, tmp_path: Path) -> None:
    one = load_experiments(PAPER / file)[0]
    config = load_config(PAPER / file, stand_in(file, tmp_path, family=family))
    ranked = config
    if one.section.ranked_on is not None:
        ranked = load_config(PAPER / one.section.ranked_on, stand_in(one.section.ranked_on, tmp_path, family=family))
    uri = finished_run(ranked)
    assert open_run(uri).errors.collect().is_empty()
    ranking = rank_run(uri, RankConfig(metric=ranked.rank.metric, bootstrap_samples=20))
    assert ranking.core_heads()
    if one.section.ranked_on is not None:
        judged_arms(config, uri, ranking)


def judged_arms(config: RunConfig, uri: str, ranking: Ranking) -> None:
    plan = make_plan(ranking, config.ablate, kv_heads=count_kv_heads(config))
    assert len(plan.arms) <= count_arms(config.ablate)
    answered = open_run(finished_ablation(config, uri, plan).storage.uri)
    assert answered.errors.collect().is_empty()
    outcomes = answered.outcomes
    table, _ = judge(outcomes, plan, bootstrap_samples=20)
    assert set(table.get_column("arm_id")) == {arm.arm_id for arm in plan.arms}
