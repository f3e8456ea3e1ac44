"""Layers and backends of a capture: fewer rows or fewer columns, but never other numbers."""

from __future__ import annotations

import numpy as np
import pytest

from rampipe.errors import ConfigError
from rampipe.tables.rows import head_stats_table
from rampipe.trials.observe import observe
from rampipe.trials.trial import prepare
from rampipe.types import QUERY_GROUPS

COLUMNS = ("mass", "peak_evidence", "hit", "entropy_nats", "mass_evidence_null")


@pytest.fixture(scope="module")
def trials(replica, samples, config):
    return [prepare(replica, sample, config=config) for sample in samples[:2]]


@pytest.fixture(params=[True, False], ids=["shared", "alone"])
def measure(request, replica, trials, config):
    def run(**options):
        options = {"share_context": request.param, **options}
        return observe(replica, trials, config=config.capture.model_copy(update=options))

    return run


def pairs(results, others):
    for one, other in zip(results, others, strict=True):
        for group in QUERY_GROUPS:
            yield one.groups[group], other.groups[group]


def test_layers_that_are_asked_for_have_the_rows_of_a_whole_pass(measure, replica):
    ran = []
    mlp = replica.model.get_decoder().layers[1].mlp
    whole = measure()
    handle = mlp.register_forward_pre_hook(lambda *_: ran.append(1))
    try:
        first = measure(layers=(0,))
        last = measure(layers=(1,))
    finally:
        handle.remove()
    assert ran == []  # nothing after the last attention, and with it no head over the vocabulary
    for layer, some in ((0, first), (1, last)):
        for one, other in pairs(some, whole):
            assert one.layers.tolist() == [layer]
            for column in COLUMNS:
                expected = getattr(other, column)
                assert expected is None or np.array_equal(getattr(one, column)[0], expected[layer])
    assert head_stats_table(first).num_rows * 2 == head_stats_table(whole).num_rows
    assert not np.array_equal(first[0].groups["last"].mass, last[0].groups["last"].mass)  # twin


@pytest.mark.parametrize("backend", ["dense", "deferred", "lse"])
def test_every_backend_gives_the_same_numbers_or_none(measure, backend):
    for one, other in pairs(measure(backend=backend), measure()):
        for column in COLUMNS:
            found, expected = getattr(one, column), getattr(other, column)
            if backend == "lse" and column in ("hit", "entropy_nats"):
                assert found is None
            elif expected is not None:
                assert np.abs(found - expected).max() < 1e-5


def test_what_lse_does_not_measure_is_null_and_not_0(measure):
    table = head_stats_table(measure(backend="lse"))
    for column in ("hit", "entropy_nats"):
        assert table[column].null_count == table.num_rows
    for column in ("mass_evidence", "peak_evidence", "mass_other_text"):
        assert table[column].null_count == 0
    assert head_stats_table(measure())["entropy_nats"].null_count == 0  # twin


def test_a_layer_that_is_not_there_is_refused(measure):
    with pytest.raises(ConfigError, match=r"capture\.layers = \[0, 9\].*layers 0-1"):
        measure(layers=(0, 9))
