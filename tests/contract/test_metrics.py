"""Every metric of the tuple: the same shape, the numbers of its definition, and null where it has none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rampipe.heads.metrics as package
from rampipe.config import CaptureConfig, load_config
from rampipe.errors import ConfigError
from rampipe.heads.metrics import METRICS, check_captured, check_columns, metric_by_id
from rampipe.heads.metrics.metric import Metric
from rampipe.tables.schema import latest_schema, load_schema
from rampipe.types import QUERY_GROUPS

ALL = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.ID)
SHARED_FILES = {"__init__", "metric", "context"}

mass = st.floats(0.0, 1.0, width=32)
ROWS = st.fixed_dictionaries(
    {
        "mass_evidence": st.none() | mass,
        "mass_evidence_image_rest": mass,
        "mass_other_visual": mass,
        "mass_evidence_null": st.none() | mass,
        "hit": st.none() | mass,
        "mass_evidence_top": st.none() | mass,
        "hit_per_patch": st.none() | mass,
        "copied": st.none() | mass,
        "num_answer": st.integers(0, 300),
        "num_evidence": st.integers(0, 4000),
        "num_tokens": st.integers(5000, 9000),
        "num_question": st.integers(1, 90),
    }
)


def naive(metric_id: str, row: Mapping[str, float]) -> float | None:
    """The definitions of DESIGN section 3, written down once more without Polars."""
    evidence, null, hit = row["mass_evidence"], row["mass_evidence_null"], row["hit"]
    if metric_id in ("hit", "hit_answer"):
        return hit
    if metric_id == "hit_density":
        return None if hit is None or not row["num_evidence"] else hit / row["num_evidence"]
    if metric_id == "copy_score":
        return row["copied"]
    if metric_id == "ocr_hit":
        return None if row["hit_per_patch"] is None else row["hit_per_patch"] * row["num_answer"]
    if metric_id == "r2_score":
        top = row["mass_evidence_top"]
        return None if top is None or not row["num_evidence"] else top / row["num_evidence"] * row["num_answer"]
    if evidence is None:
        return None
    if metric_id in ("ram", "ram_last", "ram_answer"):
        return evidence
    if metric_id == "ram_calibrated":
        return None if null is None else evidence - null
    if metric_id == "visual_share":
        visual = evidence + row["mass_evidence_image_rest"] + row["mass_other_visual"]
        return evidence / visual if visual > 0 else None
    if row["num_evidence"] == 0:
        return None
    context = row["num_tokens"] - row["num_question"]
    return {
        "density": evidence / row["num_evidence"],
        "lift": (evidence / row["num_evidence"]) / (1 / context),
        "excess": evidence - row["num_evidence"] / context,
    }[metric_id]


def evaluate(metric: Metric, row: Mapping[str, float | None]) -> float | None:
    schema = {name: pl.Int32 if name.startswith("num_") else pl.Float32 for name in row}
    frame = pl.DataFrame([row], schema=schema).select(metric.expression().alias("value"))
    assert frame.schema["value"] == pl.Float64
    return frame.item()


@ALL
@settings(max_examples=60)
@given(row=ROWS)
def test_value_is_the_definition(metric: Metric, row: dict[str, float | None]) -> None:
    expected, found = naive(metric.ID, row), evaluate(metric, row)  # pyright: ignore[reportArgumentType]
    assert (found is None) == (expected is None)
    if expected is not None and found is not None:
        assert math.isclose(found, expected, rel_tol=1e-12, abs_tol=1e-12)


@ALL
def test_the_definitions_tell_metrics_apart(metric: Metric) -> None:
    """Twin: on one row of different numbers, no other definition gives this metric's value."""
    row = {
        "mass_evidence": 0.25, "mass_evidence_image_rest": 0.125, "mass_other_visual": 0.0625,
        "mass_evidence_null": 0.5, "hit": 0.75, "mass_evidence_top": 0.1875, "hit_per_patch": 0.03125, "copied": 0.375,
        "num_answer": 5, "num_evidence": 7, "num_tokens": 200, "num_question": 9,
    }  # fmt: skip
    same_by_definition = ({"ram", "ram_last", "ram_answer"}, {"hit", "hit_answer"})  # of other query rows
    found = evaluate(metric, row)
    others = {other.ID for other in METRICS if naive(other.ID, row) == pytest.approx(found)} - {metric.ID}
    assert others <= next((same for same in same_by_definition if metric.ID in same), set())


@ALL
def test_no_evidence_is_null_not_zero(metric: Metric) -> None:
    row = {
        "mass_evidence": None, "mass_evidence_image_rest": 0.0, "mass_other_visual": 0.5,
        "mass_evidence_null": None, "hit": None, "mass_evidence_top": None, "hit_per_patch": None, "copied": None,
        "num_answer": 5, "num_evidence": 0, "num_tokens": 200, "num_question": 9,
    }  # fmt: skip
    assert evaluate(metric, row) is None


@ALL
def test_metric_says_what_it_is(metric: Metric) -> None:
    assert metric.QUERY in QUERY_GROUPS
    assert metric.MEANING and metric.SOURCE and metric.UNDEFINED
    assert set(metric.COUNTS) <= set(latest_schema("samples").arrow_schema.names)
    used = set(metric.expression().meta.root_names())
    assert used - set(latest_schema("head_stats").arrow_schema.names) == set(metric.COUNTS)
    assert metric_by_id(metric.ID) is metric


def test_each_file_is_one_metric_of_the_tuple() -> None:
    files = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - SHARED_FILES
    assert sorted(files) == sorted(metric.ID for metric in METRICS)


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'ram_calibrate'.*did you mean 'ram_calibrated'"):
        metric_by_id("ram_calibrate")
    with pytest.raises(ConfigError, match=r"known: \['copy_score'"):
        metric_by_id("zzzzzz")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.ID)
def test_a_metric_that_a_capture_cannot_give_is_refused_before_it(metric: Metric) -> None:
    everything = CaptureConfig(queries=QUERY_GROUPS, peer_scores=True)
    check_captured(metric.ID, everything)
    others = tuple(group for group in QUERY_GROUPS if group != metric.QUERY)
    with pytest.raises(ConfigError, match=r"capture\.queries"):
        check_captured(metric.ID, everything.model_copy(update={"queries": others}))


def test_calibration_is_needed_only_by_what_reads_it() -> None:
    check_captured("ram", CaptureConfig(queries=("question",), calibrate=False))
    with pytest.raises(ConfigError, match=r"capture\.calibrate"):
        check_captured("ram_calibrated", CaptureConfig(queries=("question",), calibrate=False))


@ALL
def test_peer_scores_are_needed_only_by_what_reads_them(metric: Metric) -> None:
    """Columns of the second version that are not in the first are those that a capture must be asked for."""
    capture = CaptureConfig(queries=QUERY_GROUPS)
    later = {*latest_schema("head_stats").arrow_schema.names} - {*load_schema("head_stats.v1").arrow_schema.names}
    if later & {*metric.expression().meta.root_names()}:
        with pytest.raises(ConfigError, match=r"capture\.peer_scores"):
            check_captured(metric.ID, capture)
    else:
        check_captured(metric.ID, capture)


@pytest.mark.parametrize(
    ("change", "message"),
    [("capture.queries=['question']", "add 'answer' to capture.queries"), ("capture.backend=lse", "backend 'lse'")],
)
def test_peer_scores_that_cannot_be_had_are_refused_by_name(change: str, message: str) -> None:
    least = ["model.path=m", "data.path=d", "capture.queries=['question','answer']", "capture.peer_scores=true"]
    assert load_config(None, least).capture.peer_scores
    with pytest.raises(ConfigError, match=rf"capture\.peer_scores.*{message}"):
        load_config(None, [*least, change])


@ALL
def test_tables_that_lack_a_column_are_refused_by_name(metric: Metric) -> None:
    latest = [name for table in ("head_stats", "samples") for name in latest_schema(table).arrow_schema.names]
    check_columns(metric.ID, latest, run_id="a-run")
    for name in metric.expression().meta.root_names():
        with pytest.raises(ConfigError, match=rf"reads \['{name}'\].*a-run"):
            check_columns(metric.ID, [other for other in latest if other != name], run_id="a-run")
