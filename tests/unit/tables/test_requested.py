"""A capture is asked to end by a file: only by one of its own run, and only for units that are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rampipe.errors import StorageError
from rampipe.tables.order import random_order
from rampipe.tables.requested import RequestedStop
from rampipe.tables.stopped import REQUEST_PATH
from tests.unit.tables.test_stopped import four_units, stopped_with


def test_it_ends_when_what_was_asked_for_is_there(tmp_path: Path) -> None:
    run = four_units(tmp_path)
    watch, asked = RequestedStop(run, seed=0), stopped_with(run, 2, 0)
    watch.add_unit(2)
    assert not watch.is_certain  # nobody asked
    run.storage.publish(REQUEST_PATH, asked.to_json())
    assert not watch.is_certain  # unit 0 is not there
    assert watch.stopped() is None
    watch.add_unit(0)
    assert watch.is_certain
    assert watch.stopped() == asked


def test_nothing_is_cut_when_everything_is_there(tmp_path: Path) -> None:
    run = four_units(tmp_path)
    run.storage.publish(REQUEST_PATH, stopped_with(run, 2, 0).to_json())
    watch = RequestedStop(run, seed=0)
    for unit in run.units:
        watch.add_unit(unit.unit_id)
    assert watch.is_certain
    assert watch.stopped() is None


def test_a_request_to_another_run_is_refused(tmp_path: Path) -> None:
    run = four_units(tmp_path)
    run.storage.publish(REQUEST_PATH, replace(stopped_with(run, 0), fingerprint="f" * 64).to_json())
    with pytest.raises(StorageError, match=r"stop_request\.json: is of fingerprint ffffffffffff"):
        _ = RequestedStop(run, seed=0).is_certain


def test_units_are_in_an_order_of_the_seed(tmp_path: Path) -> None:
    run = four_units(tmp_path)
    orders = {RequestedStop(run, seed=seed).order for seed in range(20)}
    assert len(orders) > 5
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2, 3)}
    assert random_order([3, 1, 0, 2], seed=7) == RequestedStop(run, seed=7).order
