from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rampipe.errors import SampleError
from rampipe.tables.rows import errors_table, head_stats_table, samples_table
from rampipe.tables.schema import load_schema
from rampipe.types import QUERY_GROUPS, REGIONS
from tests.unit.tables.synthetic import failure, result, statistics


def test_every_value_lands_in_its_own_row_and_column() -> None:
    results = [result(1), result(2)]
    rows = head_stats_table(results).to_pylist()
    expected = [
        (made.sample_id, query, int(layer), head, place, index)
        for made in results
        for query in QUERY_GROUPS
        if query in made.groups
        for place, layer in enumerate(made.groups[query].layers)
        for head, index in enumerate(range(made.groups[query].mass.shape[1]))
    ]
    assert [(row["sample_id"], row["query"], row["layer"], row["head"]) for row in rows] == [
        item[:4] for item in expected
    ]
    by_id = {made.sample_id: made for made in results}
    for row, (sample_id, query, _, head, place, _) in zip(rows, expected, strict=True):
        group = by_id[sample_id].groups[query]
        for region_place, region in enumerate(REGIONS[:-1]):
            assert row[f"mass_{region}"] == float(group.mass[place, head, region_place])
        assert (row["peak_evidence"], row["hit"], row["entropy_nats"]) == (
            float(group.peak_evidence[place, head]),
            float(group.hit[place, head]),
            float(group.entropy_nats[place, head]),
        )


def test_absent_is_null_and_a_measured_zero_is_zero() -> None:
    absent = replace(result(1), groups={"last": statistics("a", has_evidence=False)})
    table = head_stats_table([absent])
    for name in ("mass_evidence", "peak_evidence", "hit", "mass_evidence_null", "mass_learned_sink"):
        assert table.column(name).null_count == table.num_rows
    assert table.column("entropy_nats").null_count == 0

    zero = statistics("b", has_learned_sink=True)
    zero.mass[..., -1] += zero.mass[..., 0]
    zero.mass[..., 0] = 0
    present = head_stats_table([replace(result(1), groups={"last": zero})])
    assert present.column("mass_evidence").to_pylist() == [0.0] * present.num_rows
    assert present.column("mass_learned_sink").null_count == 0
    assert present.column("mass_evidence_null").null_count == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_statistics_that_are_not_finite_are_refused(value: float) -> None:
    bad = statistics("a")
    bad.entropy_nats[0, 0] = value
    with pytest.raises(SampleError, match=r"läufe/1, query last") as caught:
        head_stats_table([replace(result(1), groups={"last": bad})])
    assert caught.value.code == "nonfinite"


def test_masses_that_do_not_sum_to_one_are_refused() -> None:
    bad = statistics("a")
    bad.mass[1, 2, 0] += 0.01
    with pytest.raises(SampleError) as caught:
        head_stats_table([replace(result(1), groups={"last": bad})])
    assert caught.value.code == "mass_sum"


def test_samples_keep_their_order_and_their_nulls() -> None:
    rows = samples_table([result(5), result(4), result(3)]).to_pylist()
    assert [row["num_tokens"] for row in rows] == [105, 104, 103]
    assert [(row["prediction"], row["correct"]) for row in rows] == [("42", True), (None, None), ("42", False)]
    assert [row["num_evidence"] for row in rows] == [5, 5, 0]
    assert rows[2]["flags"] == ["no_evidence"]


def test_messages_are_cut_and_failures_are_in_the_order_of_the_shard() -> None:
    table = errors_table([failure(9), failure(2)])
    assert table.column("row").to_pylist() == [2, 9]
    assert {len(text) for text in table.column("message").to_pylist()} == {500}


def test_tables_of_nothing_have_their_schema() -> None:
    made = {"head_stats.v2": head_stats_table([]), "samples.v2": samples_table([]), "errors.v1": errors_table([])}
    for schema_id, table in made.items():
        assert table.num_rows == 0
        assert table.schema == load_schema(schema_id).arrow_schema
