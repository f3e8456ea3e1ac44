"""Batches depend on the unit alone, lose nobody and stay within the budget."""

from __future__ import annotations

import random

from rampipe.trials.batches import Context, compose_batches


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


def test_rows_of_one_context_stay_together_and_their_context_counts_once():
    lengths = {0: 50, 1: 10, 2: 30, 3: 12, 4: 31}
    contexts = {1: Context("a", 6), 3: Context("a", 6), 0: Context("b", 25), 2: Context("b", 25)}
    # a: 6 + 4 + 6 = 16 tokens, row 4: 31, b: 25 + 25 + 5 = 55
    assert compose_batches(lengths, batch_tokens=61, contexts=contexts) == [[1, 3], [4], [0, 2]]
    assert compose_batches(lengths, batch_tokens=62, contexts=contexts) == [[1, 3, 4], [0, 2]]
    assert compose_batches(lengths, batch_tokens=3 * 55, contexts=contexts) == [[1, 3, 4, 0, 2]]
    assert compose_batches(lengths, batch_tokens=62) == [[1, 3], [2, 4], [0]]


def test_rows_of_two_kinds_are_never_in_one_batch():
    lengths = {0: 30, 1: 10, 2: 30, 3: 11}
    kinds = {0: "16 frames", 1: "8 frames", 2: "16 frames", 3: "8 frames"}
    assert compose_batches(lengths, batch_tokens=200, kind_of=kinds) == [[0, 2], [1, 3]]
    assert compose_batches(lengths, batch_tokens=200) == [[1, 3, 0, 2]]


def test_many_questions_on_a_context_are_paid_for():
    lengths = dict.fromkeys(range(10), 30)
    contexts = {row: Context("a", 20) for row in range(9)}
    assert compose_batches(lengths, batch_tokens=60, contexts=contexts) == [[9], list(range(9))]
