"""Over decoder families: captured statistics are those of eager attention, and the forward does not notice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rampipe.attention.capture import Recorder, bad_rows, capture_attention, check_recorded, expected_layers
from tests.unit.attention.reference import eager_references, largest_difference
from tests.unit.attention.tiny_models import FAMILIES, WITHOUT_SDPA, build, last_rows, prompt

CASES = [
    (family, implementation)
    for family in FAMILIES
    for implementation in ("sdpa", "eager")
    if implementation == "eager" or family not in WITHOUT_SDPA
]
TOLERANCE = 1e-5  # of which the kernels' own rounding, carried through the layers, is the most


def captured(model, inputs, rows, regions, **options):
    with torch.no_grad(), capture_attention(model, rows=rows, regions=regions, **options) as recorder:
        output = model(**inputs, use_cache=False, output_hidden_states=True)
    return recorder, output


def worst(recorder, references):
    return max(largest_difference(recorder.layers[index], reference) for index, reference in enumerate(references))


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize(("family", "implementation"), CASES)
def test_statistics_are_those_of_eager_attention(family, implementation, padding):
    model = build(family, implementation)
    inputs, regions, real = prompt(family, padding=padding)
    rows = last_rows(real)
    references = eager_references(model, inputs, rows, regions)
    for backend in ("dense", "deferred"):
        recorder, _ = captured(model, inputs, rows, regions, backend=backend)
        check_recorded(recorder, model, tolerance=1e-5)
        assert not bad_rows(recorder).any()
        assert sorted(recorder.layers) == list(range(3))
        assert recorder.has_learned_sink == (family == "gpt_oss_sinks")
        assert worst(recorder, references) < TOLERANCE
    assert max(float(reference.mass.max()) for reference in references) > 0.7  # boosted: not near uniform


@pytest.mark.parametrize(("family", "implementation"), CASES)
def test_the_forward_is_bit_identical(family, implementation):
    model = build(family, implementation)
    inputs, regions, real = prompt(family, padding="left")
    with torch.no_grad():
        plain = model(**inputs, use_cache=False, output_hidden_states=True)
    _, observed = captured(model, inputs, last_rows(real), regions)
    assert torch.equal(plain.logits, observed.logits)
    assert len(plain.hidden_states) == len(observed.hidden_states) == 4
    for before, after in zip(plain.hidden_states, observed.hidden_states, strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_regions_give_other_masses(family):
    model = build(family, "eager")
    inputs, regions, real = prompt(family)
    rows = last_rows(real)
    references = eager_references(model, inputs, rows, regions)
    recorder, _ = captured(model, inputs, rows, regions.roll(1, dims=1))
    assert worst(recorder, references) > 0.05


SEES_ALL_OF_THE_PAST = {"mask": None, "sliding_window": None, "causal": True}
FAULTS = [
    ("mistral_sliding", SEES_ALL_OF_THE_PAST),
    ("gemma3_mixed", SEES_ALL_OF_THE_PAST),
    ("gpt_oss_sinks", SEES_ALL_OF_THE_PAST),
    ("gpt_oss_sinks", {"sinks": None}),
    ("gemma2_softcap", {"softcap": None}),
    ("qwen3_wide_heads", {"scaling": 8**-0.5}),
    ("qwen2", {"mask": None, "causal": False}),
]


@pytest.mark.parametrize(("family", "fault"), FAULTS)
def test_a_part_of_attention_that_is_ignored_is_found(family, fault, monkeypatch):
    model = build(family, "eager")
    inputs, regions, real = prompt(family)
    rows = last_rows(real)
    references = eager_references(model, inputs, rows, regions)
    plant(monkeypatch, fault)
    recorder, _ = captured(model, inputs, rows, regions)
    assert worst(recorder, references) > 0.05


@pytest.mark.parametrize(("family", "implementation"), CASES)
def test_padding_that_is_ignored_is_found(family, implementation, monkeypatch):
    """Twin: the masses no longer sum to 1, and the rows of padded samples are told from the others."""
    model = build(family, implementation)
    inputs, regions, real = prompt(family, padding="left")
    rows = last_rows(real)
    plant(monkeypatch, SEES_ALL_OF_THE_PAST)
    recorder, _ = captured(model, inputs, rows, regions)
    bad = bad_rows(recorder)
    assert not bad[rows.batch == 0].any()
    assert bad[rows.batch == 1].any()
    assert bad[rows.batch == 2].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_expected_layers_are_those_that_run(family):
    model = build(family, "eager")
    assert expected_layers(model) == list(range(model.config.get_text_config().num_hidden_layers))


def plant(monkeypatch, fault):
    """A second pass that reads a changed call: the fault of a recorder that forgets something."""
    correct = Recorder.observe
    monkeypatch.setattr(Recorder, "observe", lambda self, module, call: correct(self, module, replace(call, **fault)))
