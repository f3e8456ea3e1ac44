"""Samples of text alone, beside needles in one evaluated split: the control set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from rampipe.data import open_source
from rampipe.engine.plan import make_spec
from rampipe.heads.verdict.judge import judge
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.read import open_run
from rampipe.tables.run import create_run
from rampipe.tables.shards import write_shards
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.samples import generate_samples
from rampipe.types import ContextPart, HeadId, Sample
from tests.ablated import finished_ablation
from tests.local_run import make_config

BASE = Arm("base", "base", "ablate", "zero", "all", "query_head", "overall", 0.0, None, None, 0, 0.0, None, ())
TOUCHED = replace(BASE, arm_id="zero", strategy="top", num_heads=2, heads=(HeadId(0, 3), HeadId(0, 5)))
SEES = {"sink_tokens": 4, "window_tokens": 8, "keep_text": True, "dense_below_tokens": 0}
PLAN = ArmPlan(
    *("run", "ram", "0" * 64, 96, None, SEES),
    (
        BASE,
        TOUCHED,
        replace(TOUCHED, arm_id="blind", mode="evidence_knockout"),
        replace(TOUCHED, arm_id="late", mode="mean", positions="after_context"),
        replace(TOUCHED, arm_id="keep", kind="keep", mode="hybrid"),
    ),
)
TEXT = (ContextPart(kind="text", text="red-star blue-star green-disk"),)


def text_only(name: str, context: tuple[ContextPart, ...], answers: tuple[str, ...]) -> Sample:
    return Sample(name, "text", context, (), "what is next to the red-star", answers, None, ())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder = tmp_path_factory.mktemp("control")
    needles = list(generate_samples(domain="glyph", split="eval", count=2, seed=0))
    unmarked = replace(needles[1], sample_id="unmarked", evidence=())
    controls = [
        text_only("told", TEXT, ("blue-star",)),
        text_only("bare", (), ("blue-star",)),
        text_only("open", TEXT, ()),
    ]
    write_shards([needles[0], controls[0], unmarked, *controls[1:]], folder / "samples", split="eval")
    ranked = generate_samples(domain="glyph", split="select", count=1, seed=0)
    write_shards([text_only("ranked", TEXT, ("blue-star",)), *ranked], folder / "samples", split="select")
    overrides = ["data.split=select", "ablate.split=eval", "capture.predict_tokens=3", "cluster.threads_per_replica=1"]
    config = make_config(model=Path(weights_path()), data=folder / "samples", out=folder / "runs", overrides=overrides)
    parent = create_run(config.out, make_spec(config, open_source(config.data)))
    run = finished_ablation(config, parent.storage.uri, PLAN)
    opened = open_run(run.storage.uri)
    assert opened.errors.collect().is_empty()
    return opened.outcomes.collect()


def values(outcomes: pl.DataFrame, sample_id: str, column: str) -> dict[str, object]:
    rows = outcomes.filter(pl.col("sample_id") == sample_id)
    return dict(zip(rows.get_column("arm_id"), rows.get_column(column), strict=True))


def test_text_alone_is_control_and_an_image_is_not(outcomes: pl.DataFrame) -> None:
    assert outcomes.height == 5 * len(PLAN.arms)
    control = outcomes.filter("control").get_column("sample_id").unique().sort().to_list()
    assert control == ["bare", "open", "told"]
    assert not any(values(outcomes, "unmarked", "control").values())


def test_control_samples_are_answered_and_judged_in_every_arm(outcomes: pl.DataFrame) -> None:
    for sample_id in ("told", "bare"):
        assert set(values(outcomes, sample_id, "correct").values()) == {False}  # this model knows digits alone
        assert all(values(outcomes, sample_id, "prediction").values())
        assert None not in values(outcomes, sample_id, "answer_log_prob").values()
    assert set(values(outcomes, "open", "correct").values()) == {None}
    assert set(values(outcomes, "open", "answer_log_prob").values()) == {None}
    assert all(values(outcomes, "open", "prediction").values())


def test_nothing_of_a_text_is_evidence_or_out_of_sight(outcomes: pl.DataFrame) -> None:
    log_probs = values(outcomes, "told", "answer_log_prob")
    assert log_probs["blind"] == pytest.approx(log_probs["base"], abs=1e-4)
    assert log_probs["keep"] == pytest.approx(log_probs["base"], abs=1e-4)
    assert log_probs["zero"] != pytest.approx(log_probs["base"], abs=1e-4)
    with_image = values(outcomes, "unmarked", "answer_log_prob")
    assert with_image["keep"] != pytest.approx(with_image["base"], abs=1e-4)


def test_the_control_set_is_a_scope_of_its_own(outcomes: pl.DataFrame) -> None:
    accuracy, _ = judge(outcomes.lazy(), PLAN, bootstrap_samples=20)
    counted = accuracy.filter(pl.col("arm_id") == "keep").select("scope", "num_samples", "num_unpredicted")
    assert counted.rows() == [("overall", 2, 0), ("control", 3, 1), ("glyph", 2, 0)]
    mixed, _ = judge(outcomes.lazy().with_columns(control=False), PLAN, bootstrap_samples=20)
    assert "control" not in mixed.get_column("scope").to_list()
