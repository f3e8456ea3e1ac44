"""Batches depend on the unit alone, lose nobody and stay within the budget."""

from __future__ import annotations

import random

from rampipe.trials.batches import compose_batches


def test_fills_by_length_up_to_the_padded_budget():
    lengths = {0: 50, 1: 10, 2: 30, 3: 10, 4: 31}
    assert compose_batches(lengths, batch_tokens=90) == [[1, 3, 2], [4], [0]]
    assert compose_batches(lengths, batch_tokens=89) == [[1, 3], [2, 4], [0]]


def test_prompt_over_the_budget_is_alone():
    assert compose_batches({7: 500, 3: 600, 1: 5}, batch_tokens=100) == [[1], [7], [3]]


def test_nothing_gives_nothing():
    assert compose_batches({}, batch_tokens=100) == []


def test_order_of_arrival_does_not_matter():
    generator = random.Random(0)
    lengths = {row: generator.choice([40, 80, 160]) for row in range(64)}
    expected = compose_batches(lengths, batch_tokens=512)
    arrived = list(lengths.items())
    for _ in range(20):
        generator.shuffle(arrived)
        assert compose_batches(dict(arrived), batch_tokens=512) == expected
    assert sorted(row for batch in expected for row in batch) == list(range(64))
    assert all(len(batch) * max(lengths[row] for row in batch) <= 512 for batch in expected)
    assert compose_batches({**lengths, 0: 500}, batch_tokens=512) != expected


def test_rows_of_one_context_stay_together_and_count_once():
    lengths = {0: 50, 1: 10, 2: 30, 3: 12, 4: 31}
    contexts = {1: "a", 3: "a", 0: "b", 2: "b"}
    assert compose_batches(lengths, batch_tokens=60, context_of=contexts) == [[1, 3], [4], [0, 2]]
    assert compose_batches(lengths, batch_tokens=62, context_of=contexts) == [[1, 3, 4], [0, 2]]
    assert compose_batches(lengths, batch_tokens=62) == [[1, 3], [2, 4], [0]]


def test_rows_of_two_kinds_are_never_in_one_batch():
    lengths = {0: 30, 1: 10, 2: 30, 3: 11}
    kinds = {0: "16 frames", 1: "8 frames", 2: "16 frames", 3: "8 frames"}
    assert compose_batches(lengths, batch_tokens=200, kind_of=kinds) == [[0, 2], [1, 3]]
    assert compose_batches(lengths, batch_tokens=200) == [[1, 3, 0, 2]]
