"""Planted heads look at the marker because of their weights, and only they do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rampipe.errors import ConfigError
from rampipe.testbed.evaluate import Observed, load_testbed, observe, rank_heads
from rampipe.testbed.planted import NUM_LAYERS, planted_samples, write_planted
from rampipe.types import HeadId

PLANTED = [HeadId(1, 3), HeadId(3, 10)]
UNIFORM = 1 / 45
"""A 6 x 6 image, three tokens around it and six of the question."""


def measure(folder: Path, *, heads: list[HeadId], shuffled: bool = False) -> Observed:
    write_planted(folder, heads=heads)
    return observe(load_testbed(folder), list(planted_samples(count=16, seed=1, shuffled=shuffled)))


def test_planted_heads_look_at_the_marker_and_others_are_near_uniform(tmp_path: Path) -> None:
    mass = measure(tmp_path, heads=PLANTED).mass_question
    assert sorted(rank_heads(mass)[:2]) == PLANTED
    mean = mass.mean(axis=0)
    planted = np.zeros(mean.shape, bool)
    for head in PLANTED:
        planted[head.layer, head.head] = True
    assert mean[planted].min() > 0.5
    assert mean[~planted].max() < 2 * UNIFORM
    assert mean[~planted].min() > UNIFORM / 2


def test_without_planting_no_head_looks_at_the_marker(tmp_path: Path) -> None:
    assert measure(tmp_path, heads=[]).mass_question.mean(axis=0).max() < 2 * UNIFORM


def test_shuffled_evidence_is_not_looked_at(tmp_path: Path) -> None:
    mean = measure(tmp_path, heads=PLANTED, shuffled=True).mass_question.mean(axis=0)
    assert max(mean[head.layer, head.head] for head in PLANTED) < UNIFORM


def test_shuffling_moves_the_evidence_and_nothing_else() -> None:
    pairs = zip(planted_samples(count=20, seed=0), planted_samples(count=20, seed=0, shuffled=True), strict=True)
    for true, shuffled in pairs:
        assert true.images == shuffled.images
        assert true.question == shuffled.question
        assert true.evidence != shuffled.evidence


def test_both_heads_of_a_kv_head_and_every_layer_can_be_planted(tmp_path: Path) -> None:
    heads = [HeadId(layer, head) for layer in range(NUM_LAYERS) for head in (4, 5)]
    assert sorted(rank_heads(measure(tmp_path, heads=heads).mass_question)[: len(heads)]) == heads


def test_a_head_outside_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"planted head 4\.0"):
        write_planted(tmp_path, heads=[HeadId(4, 0)])
