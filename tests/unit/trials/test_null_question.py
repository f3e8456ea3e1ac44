"""One reading of the null question serves every trial whose evidence can be told apart in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rampipe.errors import SampleError
from rampipe.tables.rows import GroupStatistics
from rampipe.trials.null_question import CLASSES, NO_EVIDENCE, share_null_question
from rampipe.trials.trial import prepare
from rampipe.types import REGIONS

EVIDENCE = REGIONS.index("evidence")
NUM_KEYS = 40
NESTED = [range(4, 8), range(4, 12), range(4, 16)]
DISJOINT = [range(4 * index, 4 * index + 4) for index in range(8)]
CROSSED = [range(0, 20), range(10, 30), range(5, 15), range(12, 18)]


@pytest.fixture(scope="module")
def null_prompt(replica, samples, config):
    return prepare(replica, samples[0], config=config).null_prompt


def prompts_with(null_prompt, evidences):
    found = []
    for index, evidence in enumerate(evidences):
        regions = torch.full((NUM_KEYS,), REGIONS.index("other_text"), dtype=torch.int8)
        regions[list(evidence)] = EVIDENCE
        ids = torch.zeros(NUM_KEYS, dtype=torch.int64)
        name = f"sample {index}"
        found.append(replace(null_prompt, sample_id=name, input_ids=ids, piece_tokens=ids, regions=regions))
    return found


def statistics_of(attention, regions):
    mass = np.stack([attention[..., (regions == index).numpy()].sum(-1) for index in range(len(REGIONS))], axis=-1)
    return {
        "question": GroupStatistics(
            layers=np.arange(2, dtype=np.int16),
            mass=mass,
            peak_evidence=mass[..., 0],
            hit=None,
            entropy_nats=None,
            mass_evidence_null=None,
            has_evidence=True,
            has_learned_sink=False,
        )
    }


@pytest.mark.parametrize(
    ("evidences", "num_readings"),
    [(NESTED, 1), (DISJOINT, 2), ([range(3, 9)] * 12, 1), ([()] * 2, 1), ([range(NUM_KEYS)] * 2, 1), (CROSSED, 2)],
)
def test_evidence_mass_of_every_trial(null_prompt, evidences, num_readings):
    attention = np.random.default_rng(0).dirichlet(np.ones(NUM_KEYS), size=(2, 3)).astype(np.float32)
    trials = [10 + index for index in range(len(evidences))]
    readings = list(share_null_question(trials, prompts_with(null_prompt, evidences)))
    assert len(readings) == num_readings
    masses = {}
    for reading in readings:
        masses |= reading.evidence_masses(statistics_of(attention, reading.prompt.regions))
    assert list(masses) == trials
    for mass, evidence in zip(masses.values(), evidences, strict=True):
        assert np.abs(mass - attention[..., list(evidence)].sum(-1)).max() < 1e-6


def test_no_more_classes_than_names(null_prompt):
    """Twin of the counts above: 2 ** 4 classes would take names that no key has."""
    for reading in share_null_question(range(8), prompts_with(null_prompt, DISJOINT)):
        named = set(reading.prompt.regions.tolist())
        assert named <= {NO_EVIDENCE, *CLASSES}
        assert all(len(classes) == 1 for classes in reading.classes)


def test_a_failure_is_that_of_all_its_trials(null_prompt):
    (reading,) = share_null_question([3, 5], prompts_with(null_prompt, NESTED[:2]))
    assert reading.prompt.sample_id == "sample 0, null question (shared with 1 more)"
    error = SampleError("bad", stage="statistics", code="nonfinite")
    assert reading.evidence_masses(error) == {3: error, 5: error}
