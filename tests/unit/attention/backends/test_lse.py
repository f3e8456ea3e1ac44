"""Masses from the kernel's own log-sum are those of eager attention; what they do not touch is absent, not 0."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rampipe.attention.backends.lse import LogSum
from rampipe.attention.call import AttentionCall
from rampipe.attention.capture import QueryRows, bad_rows, capture_attention, check_recorded
from rampipe.attention.rows import group_rows
from rampipe.types import REGIONS
from tests.unit.attention.reference import eager_references
from tests.unit.attention.tiny_models import FAMILIES, WITHOUT_SDPA, build, last_rows, prompt

TOLERANCE = 1e-5


def captured(model, inputs, rows, regions, mode=torch.no_grad):
    with mode(), capture_attention(model, rows=rows, regions=regions, backend="lse") as recorder:
        hidden = model(**inputs, use_cache=False, output_hidden_states=True).hidden_states
    return recorder, hidden


def worst(recorder, references):
    return max(
        float((found - expected).abs().max())
        for index, reference in enumerate(references)
        for found, expected in (
            (recorder.layers[index].mass.double(), reference.mass),
            (recorder.layers[index].peak_evidence.double(), reference.peak_evidence),
        )
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in WITHOUT_SDPA])
def test_masses_are_those_of_eager_attention(family, padding, mode):
    model = build(family)
    inputs, regions, real = prompt(family, padding=padding)
    rows = last_rows(real)
    references = eager_references(model, inputs, rows, regions)
    recorder, hidden = captured(model, inputs, rows, regions, mode)
    check_recorded(recorder, model, tolerance=1e-5)
    assert worst(recorder, references) < TOLERANCE
    assert all(layer.hit is None and layer.entropy_nats is None for layer in recorder.layers.values())
    with mode():
        plain = model(**inputs, use_cache=False, output_hidden_states=True).hidden_states
    assert all(torch.equal(one, other) for one, other in zip(hidden, plain, strict=True))
    assert worst(captured(model, inputs, rows, regions.roll(1, dims=1), mode)[0], references) > 0.05  # twin


@pytest.mark.parametrize("family", WITHOUT_SDPA)
def test_a_kernel_without_log_sum_is_read_densely(family):
    """Soft-cap and sinks: eager alone computes them, and it leaves no log-sum."""
    model = build(family, "eager")
    inputs, regions, real = prompt(family, padding="left")
    rows = last_rows(real)
    references = eager_references(model, inputs, rows, regions)
    recorder, _ = captured(model, inputs, rows, regions)
    assert worst(recorder, references) < TOLERANCE
    assert recorder.layers[0].entropy_nats is None  # one run, one set of columns


def test_only_keys_of_smaller_regions_are_touched():
    """Other keys of the largest region change nothing but through the kernel's sum; other keys of others do."""
    generator = torch.Generator().manual_seed(0)
    call = AttentionCall(
        query=torch.randn(1, 4, 5, 8, generator=generator),
        key=torch.randn(1, 2, 30, 8, generator=generator),
        mask=torch.ones(1, 1, 5, 30, dtype=torch.bool),
        scaling=0.5,
        log_total=torch.full((1, 4, 5), 9.0),
    )
    regions = torch.tensor([[REGIONS.index("evidence")] * 5 + [6] * 20 + [3] * 5], dtype=torch.int8)
    before = masses(call, regions)
    assert torch.equal(masses(replace(call, key=changed(call.key, 10)), regions), before)
    assert not torch.equal(masses(replace(call, key=changed(call.key, 2)), regions), before)
    assert not torch.equal(masses(replace(call, key=changed(call.key, 27)), regions), before)


def masses(call, regions):
    rows = QueryRows(torch.zeros(2, dtype=torch.long), torch.tensor([1, 4]))
    backend = LogSum(group_rows(rows, regions, device=torch.device("cpu")))
    backend.observe(0, call)
    backend.finish()
    return backend.layers[0].mass


def changed(key, position):
    key = key.clone()
    key[:, :, position] += 1
    return key


def test_a_sum_that_is_too_small_is_found_and_rounding_is_not():
    """The others alone exceed 1: the log-sum is not of these keys."""
    model = build("qwen2")
    inputs, regions, real = prompt("qwen2")
    rows = last_rows(real)
    for shift, is_bad in ((-1.0, True), (-1e-6, False)):
        observe = LogSum.observe
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                LogSum,
                "observe",
                lambda self, layer, call, shift=shift, observe=observe: observe(
                    self, layer, replace(call, log_total=call.log_total + shift)
                ),
            )
            recorder, _ = captured(model, inputs, rows, regions)
        assert bool(bad_rows(recorder).any()) is is_bad


def test_one_region_alone_and_no_evidence():
    call = AttentionCall(query=torch.ones(1, 1, 1, 1), key=torch.ones(1, 1, 4, 1), mask=None, scaling=1.0, causal=False)
    call = replace(call, log_total=torch.full((1, 1, 1), 1 + torch.tensor(4.0).log().item()))
    for region in (0, 6):
        regions = torch.full((1, 4), region, dtype=torch.int8)
        backend = LogSum(group_rows(QueryRows(torch.tensor([0]), torch.tensor([0])), regions, device=call.key.device))
        backend.observe(0, call)
        backend.finish()
        assert backend.layers[0].mass[0, 0, region].item() == pytest.approx(1.0, abs=1e-6)
        assert backend.layers[0].peak_evidence.item() == pytest.approx(0.25 if region == 0 else 0.0, abs=1e-6)


def test_a_row_that_sees_nothing_is_not_a_number():
    call = AttentionCall(
        query=torch.ones(1, 1, 1, 1),
        key=torch.ones(1, 1, 4, 1),
        mask=torch.zeros(1, 1, 1, 4, dtype=torch.bool),
        scaling=1.0,
    )
    for log_total in (-torch.inf, -3.4e38, torch.nan):
        regions = torch.tensor([[0, 6, 6, 3]], dtype=torch.int8)
        backend = LogSum(group_rows(QueryRows(torch.tensor([0]), torch.tensor([0])), regions, device=call.key.device))
        backend.observe(0, replace(call, log_total=torch.full((1, 1, 1), log_total)))
        backend.finish()
        assert backend.layers[0].mass.isnan().all()
        assert backend.layers[0].peak_evidence.isnan().all()
