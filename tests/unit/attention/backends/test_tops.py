"""The largest keys of a row, against what a loop over a softmax in float64 finds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rampipe.attention.call import AttentionCall
from rampipe.attention.capture import capture_attention
from rampipe.attention.rows import QueryRows
from rampipe.errors import ConfigError
from rampipe.types import REGIONS
from tests.unit.attention.backends.test_dense import calls, naive_probabilities, statistics
from tests.unit.attention.tiny_models import FAMILIES, WITHOUT_SDPA, build, last_rows, prompt

EVIDENCE = REGIONS.index("evidence")


def with_tops(rows, seed=0, frac=0.7):
    tops = torch.rand(len(rows.batch), generator=torch.Generator().manual_seed(seed)) < frac
    return QueryRows(rows.batch, rows.position, tops)


def check_against_loop(layer, probabilities, rows, regions, *, tolerance=5e-5):
    """Every wanted row of every head: by sorting its keys, as the definition reads. Returns how many were clear."""
    num_clear = 0
    for row, (batch, position) in enumerate(zip(rows.batch.tolist(), rows.position.tolist(), strict=True)):
        places = [key for key, region in enumerate(regions[batch].tolist()) if region == EVIDENCE]
        for head in range(probabilities.shape[1]):
            index, mass = layer.evidence_index[head, row].item(), layer.mass_evidence_top[head, row].item()
            if not rows.tops[row]:
                assert index == -1 and mass != mass
                continue
            shares = probabilities[batch, head, position].double().tolist()
            if not places:
                assert mass == 0.0
                continue
            ranked = sorted(range(len(shares)), key=lambda key: -shares[key])
            bound, after = shares[ranked[len(places) - 1]], [*sorted(shares, reverse=True), 0.0][len(places)]
            if bound - after > 1e-5:  # clear of rounding
                expected = sum(shares[key] for key in ranked[: len(places)] if key in places)
                assert mass == pytest.approx(expected, abs=tolerance)
                num_clear += 1
            of_evidence = sorted((shares[key] for key in places), reverse=True)
            if of_evidence[0] - [*of_evidence, 0.0][1] > 1e-5:
                assert shares[places[index]] == of_evidence[0]
    return num_clear


@settings(max_examples=60)
@given(calls(), st.sampled_from(["dense", "deferred"]), st.integers(0, 99))
def test_any_shape_and_mask(drawn, backend, seed):
    call, visible, rows, regions, block_logits = drawn
    rows = with_tops(rows, seed)
    layer = statistics(call, rows, regions, block_logits, backend)
    check_against_loop(layer, naive_probabilities(call, visible), rows, regions)


@pytest.mark.parametrize("backend", ["dense", "deferred"])
@pytest.mark.parametrize("family", FAMILIES)
def test_any_decoder_against_its_own_eager_attention(family, backend):
    inputs, regions, real = prompt(family, padding="left")
    rows = with_tops(last_rows(real))
    model = build(family, "eager" if family in WITHOUT_SDPA else "sdpa")
    with torch.no_grad(), capture_attention(model, rows=rows, regions=regions, backend=backend) as recorder:
        model(**inputs, use_cache=False)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(**inputs, output_attentions=True, use_cache=False).attentions
    clear = [
        check_against_loop(layer, probabilities, rows, regions)
        for layer, probabilities in zip(recorder.layers.values(), attentions, strict=True)
    ]
    assert min(clear) > 10


def test_what_is_not_asked_for_is_not_there():
    inputs, regions, real = prompt("qwen2")
    with torch.no_grad(), capture_attention(model := build("qwen2"), rows=last_rows(real), regions=regions) as recorder:
        model(**inputs, use_cache=False)
    assert all(layer.evidence_index is None and layer.mass_evidence_top is None for layer in recorder.layers.values())


def test_other_statistics_are_the_same_bit_for_bit():
    inputs, regions, real = prompt("qwen2")
    model, found = build("qwen2"), []
    for rows in (last_rows(real), with_tops(last_rows(real))):
        with torch.no_grad(), capture_attention(model, rows=rows, regions=regions) as recorder:
            model(**inputs, use_cache=False)
        found.append(recorder.layers)
    for plain, more in zip(found[0].values(), found[1].values(), strict=True):
        assert all(
            torch.equal(getattr(plain, name), getattr(more, name))
            for name in ("mass", "peak_evidence", "hit", "entropy_nats")
        )


def one_row(keys, regions):
    """A query of 1 over scalar keys: the logits are the keys."""
    call = AttentionCall(
        query=torch.ones(1, 1, 1, 1), key=torch.tensor(keys)[None, None, :, None], mask=None, scaling=1.0
    )
    rows = QueryRows(torch.tensor([0]), torch.tensor([0]), torch.tensor([True]))
    layer = statistics(call, rows, torch.tensor([regions], dtype=torch.int8))
    return layer.evidence_index.item(), layer.mass_evidence_top.item(), layer.mass[0, 0, EVIDENCE].item()


def test_only_evidence_among_the_n_largest_counts():
    index, top, mass = one_row([0.0, 4.0, 3.0, 1.0], [6, 0, 6, 0])
    total = sum(torch.tensor([0.0, 4.0, 3.0, 1.0]).exp().tolist())
    assert index == 0
    assert top == pytest.approx(torch.tensor(4.0).exp().item() / total)  # the other evidence key is not among the two
    assert mass == pytest.approx((torch.tensor([4.0, 1.0]).exp().sum() / total).item())
    index, top, mass = one_row([0.0, 2.0, 1.0, 4.0], [6, 0, 6, 0])
    assert index == 1
    assert top == pytest.approx(mass)  # twin: both are


def test_a_short_cache_counts_evidence_from_the_start_of_the_sequence():
    """Two of four evidence keys have left the window: the third is still the third."""
    call = AttentionCall(
        query=torch.ones(1, 1, 1, 1), key=torch.tensor([2.0, 0.0, 1.0])[None, None, :, None], mask=None, scaling=1.0
    )
    rows = QueryRows(torch.tensor([0]), torch.tensor([0]), torch.tensor([True]))
    layer = statistics(call, rows, torch.tensor([[0, 0, 6, 0, 6, 0]], dtype=torch.int8))
    assert layer.evidence_index.item() == 2
    assert layer.mass_evidence_top.item() == pytest.approx(layer.mass[0, 0, EVIDENCE].item())


def test_lse_cannot_tell():
    _, regions, real = prompt("qwen2")
    rows = with_tops(last_rows(real))
    with (
        pytest.raises(ConfigError, match="backend 'lse'"),
        capture_attention(build("qwen2"), rows=rows, regions=regions, backend="lse"),
    ):
        raise AssertionError("opened")
