"""A run of timings without Ray: what is planned, and the worker itself in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.events import SkippedRow
from rampipe.engine.plan import make_spec
from rampipe.engine.speed import create_timings, run_timings
from rampipe.engine.speed_plan import make_speed_spec, speed_config, whole_devices
from rampipe.engine.speed_worker import SpeedWorker
from rampipe.errors import ConfigError, DataError
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.finish import finish_run
from rampipe.tables.read import open_run
from rampipe.tables.run import Run, create_run
from rampipe.tables.verify import verify
from rampipe.testbed.architecture import build_model
from rampipe.testbed.checkpoint import save_checkpoint
from rampipe.testbed.dataset import write_samples
from rampipe.types import HeadId
from tests.local_run import make_config

SETTINGS = {"sink_tokens": 4, "window_tokens": 16, "keep_text": True, "dense_below_tokens": 0}
LENGTHS = (96, 4)


def keep(arm_id: str, heads: tuple[HeadId, ...] = (HeadId(0, 1),), *, seed: int | None = None) -> Arm:
    strategy = "top" if seed is None else "random"
    return Arm(
        arm_id, strategy, "keep", "hybrid", "all", "query_head", "overall", 0.1, seed, None, len(heads), 0.1, 0.1, heads
    )


BASE = Arm("base", "base", "keep", "hybrid", "all", "query_head", "overall", 1.0, None, None, 0, 0.0, None, ())
ARMS = (BASE, keep("top"), keep("none", ()), keep("draw0", seed=0), keep("draw1", seed=1))


def plan_of(*arms: Arm) -> ArmPlan:
    return ArmPlan("run", "ram", "0" * 64, 32, 8, SETTINGS, arms)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("speed")
    save_checkpoint(build_model(seed=3, num_layers=2), folder / "model")
    for split in ("select", "eval"):
        write_samples(folder / "samples", split=split, count_per_domain=1, seed=5, shard_rows=8)
    overrides = ["data.split=select", "speed.split=eval", f"speed.context_tokens={list(LENGTHS)}", "speed.repeats=1"]
    overrides += ["speed.new_tokens=2", "speed.timed_seeds=1", "speed.warmups=0", "cluster.max_error_frac=0.5"]
    return make_config(model=folder / "model", data=folder / "samples", out=folder / "runs", overrides=overrides)


@pytest.fixture(scope="module")
def run_uri(config: RunConfig) -> str:
    return create_run(config.out, make_spec(config, open_source(config.data))).storage.uri


def with_speed(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"speed": config.speed.model_copy(update=changes)})


def worker_of(config: RunConfig, run: Run) -> SpeedWorker:
    return SpeedWorker(speed_config(config), run_uri=run.storage.uri, fingerprint=run.fingerprint)


@pytest.fixture(scope="module")
def timed(config: RunConfig, run_uri: str) -> Run:
    run = create_timings(config, run_uri, plan_of(*ARMS))
    worker = worker_of(config, run)
    for unit in run.units:
        worker.run_unit(unit, attempt=1)
    finish_run(run)
    return run


def test_every_arm_at_every_length_is_there(timed: Run, run_uri: str) -> None:
    """4 tokens do not hold header and question: error rows, and the others are timed."""
    assert timed.storage.uri.startswith(f"{run_uri}/speed/timings/")
    assert verify(timed.storage).problems == ()
    opened = open_run(timed.storage.uri)
    rows = opened.timings.select("arm_id", "context_tokens", "repeat").collect().rows()
    arms = {"top", "none", "draw0"}
    assert sorted(rows) == sorted((arm, 96, 0) for arm in arms)
    errors = opened.errors.collect()
    assert set(errors.get_column("sample_id")) == {f"{arm}@4" for arm in arms}
    assert set(errors.get_column("code")) == {"context_too_short"}
    for row in opened.timings.collect().iter_rows(named=True):
        assert row["cache_bytes"] == row["predicted_cache_bytes"] < row["dense_cache_bytes"]


def test_what_is_done_needs_no_cluster(
    timed: Run, config: RunConfig, run_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # joining this would fail
    outcome = run_timings(config, run_uri, plan_of(*ARMS), announce=lambda text: None)
    assert (outcome.run_uri, outcome.skipped) == (timed.storage.uri, True)
    assert (outcome.num_ok, outcome.num_errors, outcome.num_units) == (3, 3, 3)


def test_rows_that_end_workers_become_error_rows(timed: Run, config: RunConfig, run_uri: str) -> None:
    other = with_speed(config, repeats=2)
    run = create_timings(other, run_uri, plan_of(*ARMS))
    record = worker_of(other, run).run_unit(run.units[0], attempt=4, skip=(SkippedRow(0, "died", "killed"),))
    assert (record["num_ok"], record["num_errors"], record["num_rows"]) == (0, 2, 0)
    errors = open_run(run.storage.uri).errors.collect().sort("row")
    assert errors.get_column("code").to_list() == ["killed_worker", "context_too_short"]
    assert errors.get_column("sample_id").to_list() == [f"{run.units[0].shard}@96", f"{run.units[0].shard}@4"]


def test_units_are_arms_in_an_order_that_follows_from_what_is_timed(config: RunConfig) -> None:
    many = plan_of(BASE, *(keep(f"arm{number}") for number in range(12)))
    spec = make_speed_spec(config, many)
    order = [unit.shard for unit in spec.units]
    assert sorted(order) == sorted(arm.arm_id for arm in many.arms[1:])
    assert order != [arm.arm_id for arm in many.arms[1:]]
    assert make_speed_spec(config, many).units == spec.units
    assert [unit.shard for unit in make_speed_spec(with_speed(config, repeats=3), many).units] != order


def test_what_changes_the_times_changes_the_fingerprint(config: RunConfig) -> None:
    plan = plan_of(*ARMS)
    prints = {make_speed_spec(config, plan).fingerprint}
    changed = [with_speed(config, repeats=3), with_speed(config, new_tokens=3), with_speed(config, warmups=1)]
    changed += [with_speed(config, context_tokens=(4, 96)), with_speed(config, split="select")]
    for change in ({"threads_per_replica": 2}, {"gpus_per_replica": 1.0}):
        changed.append(config.model_copy(update={"cluster": config.cluster.model_copy(update=change)}))
    prints |= {make_speed_spec(other, plan).fingerprint for other in changed}
    prints.add(make_speed_spec(config, plan_of(*ARMS[:2])).fingerprint)
    assert len(prints) == len(changed) + 2
    patient = config.cluster.model_copy(update={"min_deadline_s": 99.0, "replicas": 3})
    same = with_speed(config, seeds=9).model_copy(update={"cluster": patient})
    assert make_speed_spec(same, plan).fingerprint == make_speed_spec(config, plan).fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_tokens": (64, 4096)}, r"context_tokens 4096: .* context of 4096 tokens. Take at most 4094"),
        ({"context_tokens": (64, 64)}, "names one length twice"),
        ({"split": None}, r"speed.split is not set"),
    ],
)
def test_what_cannot_be_timed_is_said_before_anything_starts(
    config: RunConfig, run_uri: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_timings(with_speed(config, **changes), run_uri, plan_of(*ARMS), announce=lambda text: None)


def test_a_plan_without_anything_to_time_is_refused(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="none of its 2 arms"):
        make_speed_spec(config, plan_of(BASE, keep("draw1", seed=1)))


def test_another_model_is_refused(config: RunConfig, run_uri: str, tmp_path: Path) -> None:
    save_checkpoint(build_model(seed=4, num_layers=2), tmp_path / "other")
    model = config.model.model_copy(update={"path": str(tmp_path / "other")})
    with pytest.raises(ConfigError, match="not the checkpoint of run"):
        create_timings(config.model_copy(update={"model": model}), run_uri, plan_of(*ARMS))


def test_a_split_without_a_usable_sample_is_refused(
    timed: Run, config: RunConfig, run_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = config.model_copy(update={"capture": config.capture.model_copy(update={"max_pixels": 1})})
    with pytest.raises(DataError, match=r"none of the first 256 samples of split 'eval'"):
        worker_of(small, timed)


@pytest.mark.parametrize(
    ("gpus", "replicas", "expected"),
    [(0.0, 4, (0, 1)), (0.0, "auto", (0, 1)), (0.25, 8, (1, "auto")), (1.0, 2, (1, 2)), (2.0, "auto", (2, "auto"))],
)
def test_every_actor_has_whole_devices(
    config: RunConfig, gpus: float, replicas: int | str, expected: tuple[int, int | str]
) -> None:
    asked = config.cluster.model_copy(update={"gpus_per_replica": gpus, "replicas": replicas})
    found = whole_devices(asked)
    assert (found.gpus_per_replica, found.replicas) == expected


def test_plan_json_is_the_plan(timed: Run) -> None:
    assert [arm["arm_id"] for arm in json.loads(timed.storage.read("plan.json"))["arms"]] == [
        arm.arm_id for arm in ARMS
    ]
