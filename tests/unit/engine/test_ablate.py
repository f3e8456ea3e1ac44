from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import Gemma4TextConfig

from rampipe.config import RunConfig
from rampipe.engine.ablate import ablation_config, create_ablation, evaluated_ids, run_ablation
from rampipe.engine.plan import count_kv_heads, make_ablation_spec
from rampipe.errors import ConfigError
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.balance import balance
from rampipe.tables.read import open_run
from rampipe.tables.repair import repair
from rampipe.tables.run import open_run_dir
from rampipe.tables.verify import verify
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.dataset import write_samples
from rampipe.types import HeadId
from tests.ablated import finished_ablation
from tests.local_run import finished_run, make_config

BASE = Arm("base", "base", "ablate", "zero", "all", "query_head", "overall", 0.0, None, None, 0, 0.0, None, ())
HEADS = (HeadId(2, 1), HeadId(5, 3))
ARMS = (
    BASE,
    Arm("one", "top", "ablate", "zero", "all", "query_head", "overall", 0.1, None, None, 2, 0.03, None, HEADS),
    Arm("two", "top", "ablate", "mean", "decode", "query_head", "overall", 0.1, None, None, 2, 0.03, None, HEADS),
)
PLAN = ArmPlan("run", "ram", "0" * 64, 64, None, {}, ARMS)
KEEP = Arm("few", "top", "keep", "hybrid", "all", "query_head", "overall", 0.1, None, None, 2, 0.03, None, HEADS)
NARROW = {"sink_tokens": 4, "window_tokens": 8, "keep_text": True, "dense_below_tokens": 0}
KEEPING = ArmPlan("run", "ram", "0" * 64, 64, None, NARROW, (BASE, KEEP))
ANSWERS = "speed/answers"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("ablate")
    for split in ("select", "eval"):
        write_samples(folder / "samples", split=split, count_per_domain=2, seed=5, shard_rows=8)
    path = folder / "samples" / "eval-00000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[3]["images"][0]["bytes"] = b"not an image"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    overrides = ["data.split=select", "ablate.split=eval", "capture.unit_samples=4", "capture.predict_tokens=2"]
    overrides += ["ablate.reference_samples=3", "cluster.max_error_frac=0.5"]
    return make_config(model=Path(weights_path()), data=folder / "samples", out=folder / "runs", overrides=overrides)


@pytest.fixture(scope="module")
def run_uri(config: RunConfig) -> str:
    return finished_run(config)


@pytest.fixture
def ablated(config: RunConfig, run_uri: str) -> str:
    return finished_ablation(config, run_uri, PLAN).storage.uri


def outcome_bytes(uri: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(uri, "outcomes").iterdir())}


def test_an_ablation_is_a_run_that_balances(ablated: str) -> None:
    run = open_run_dir(ablated)
    account = balance(run)
    assert (account.num_ok, account.num_errors, account.num_rows) == (7, 1, 21)
    assert account.complete
    assert verify(run.storage).ok
    assert repair(run.storage).moved == ()
    path = run.storage.list("_commits")[0]
    record = json.loads(run.storage.read(path))
    run.storage.replace(path, json.dumps(record | {"num_rows": record["num_rows"] - 1}).encode())
    assert not balance(run).complete
    run.storage.replace(path, json.dumps(record).encode())


def test_the_run_beside_it_is_untouched(ablated: str, run_uri: str) -> None:
    assert ablated.startswith(f"{run_uri}/ablation/")
    assert verify(open_run_dir(run_uri).storage).ok


def test_a_lost_commit_gives_the_same_bytes_again(ablated: str, config: RunConfig, run_uri: str) -> None:
    before = outcome_bytes(ablated)
    storage = open_run_dir(ablated).storage
    for path in ("_commits/unit-000001.json", "outcomes/unit-000001.parquet", "errors/unit-000001.parquet"):
        storage.delete(path)
    assert outcome_bytes(ablated) != before
    finished_ablation(config, run_uri, PLAN)
    assert outcome_bytes(ablated) == before


def test_what_is_done_needs_no_cluster(
    ablated: str, config: RunConfig, run_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # joining this would fail
    outcome = run_ablation(config, run_uri, PLAN, announce=lambda text: None)
    assert (outcome.run_uri, outcome.skipped, outcome.num_ok, outcome.num_errors) == (ablated, True, 7, 1)


def test_another_plan_is_another_ablation(config: RunConfig, run_uri: str) -> None:
    ready = ablation_config(config)
    other = ArmPlan("run", "ram", "0" * 64, 64, None, {}, ARMS[:2])
    assert make_ablation_spec(ready, other).fingerprint != make_ablation_spec(ready, PLAN).fingerprint
    assert create_ablation(ready, run_uri, PLAN).num_arms == 3
    assert make_ablation_spec(ready, PLAN).fingerprint == make_ablation_spec(ready, PLAN).fingerprint


def test_answers_of_arms_that_keep_heads_are_a_run_of_their_own(config: RunConfig, run_uri: str) -> None:
    off = config.model_copy(update={"ablate": config.ablate.model_copy(update={"split": None})})
    run = finished_ablation(off, run_uri, KEEPING, folder=ANSWERS, split="eval")
    assert run.storage.uri.startswith(f"{run_uri}/{ANSWERS}/")
    assert (balance(run).num_ok, balance(run).num_errors, balance(run).num_rows) == (7, 1, 14)
    assert verify(run.storage).ok
    rows = open_run(run.storage.uri).outcomes.sort("sample_id", "arm_id").collect()
    base, few = (rows.filter(pl.col("arm_id") == name).get_column("answer_log_prob") for name in ("base", "few"))
    assert (base - few).abs().max() > 1e-3
    outcome = run_ablation(off, run_uri, KEEPING, folder=ANSWERS, split="eval", announce=lambda text: None)
    assert (outcome.run_uri, outcome.skipped) == (run.storage.uri, True)


@pytest.mark.parametrize("setting", sorted(NARROW))
def test_what_restricted_heads_see_is_part_of_the_fingerprint(config: RunConfig, setting: str) -> None:
    ready = ablation_config(config)
    other = replace(KEEPING, settings=NARROW | {setting: 7})
    first, again, changed = (make_ablation_spec(ready, plan).fingerprint for plan in (KEEPING, KEEPING, other))
    assert first == again != changed


def test_how_answers_are_judged_is_part_of_the_fingerprint(config: RunConfig) -> None:
    ready = ablation_config(config)
    other = ready.model_copy(update={"data": config.data.model_copy(update={"score": "containment"})})
    assert make_ablation_spec(other, PLAN).fingerprint != make_ablation_spec(ready, PLAN).fingerprint


def test_the_key_of_the_stage_is_named(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"speed\.split 'select' is the ranked split"):
        ablation_config(config, split="select")
    assert ablation_config(config, split="eval").ablate.split == "eval"


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("ablate", {"split": None}, "ablate.split is not set"),
        ("ablate", {"split": "select"}, "is the ranked split"),
        ("capture", {"predict_tokens": 0}, "predict_tokens is 0"),
    ],
)
def test_what_an_ablation_lacks_is_said_before_it_starts(
    config: RunConfig, section: str, changes: dict[str, Any], message: str
) -> None:
    changed = getattr(config, section).model_copy(update=changes)
    with pytest.raises(ConfigError, match=message):
        ablation_config(config.model_copy(update={section: changed}))


def test_ids_and_grouping_are_known_without_the_model(config: RunConfig) -> None:
    ids = list(evaluated_ids(config))
    assert len(set(ids)) == 8
    assert all("eval" in sample_id for sample_id in ids)
    assert list(evaluated_ids(config, split="select")) != ids
    limited = config.model_copy(update={"data": config.data.model_copy(update={"limit": 5})})
    assert list(evaluated_ids(limited)) == ids[:5]
    assert count_kv_heads(config) > 0


def test_layers_that_differ_have_no_one_number_of_kv_heads(config: RunConfig, tmp_path: Path) -> None:
    Gemma4TextConfig(attention_k_eq_v=True, num_global_key_value_heads=1).save_pretrained(tmp_path)
    model = config.model.model_copy(update={"path": str(tmp_path)})
    assert count_kv_heads(config.model_copy(update={"model": model})) is None
