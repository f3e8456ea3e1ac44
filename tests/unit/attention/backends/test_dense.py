"""The second pass alone, at once and deferred: random shapes and masks against a softmax in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rampipe.attention.backends import BACKENDS
from rampipe.attention.backends.blocks import BLOCK_LOGITS
from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import QueryRows, group_rows
from tests.unit.attention.reference import from_probabilities, largest_difference


def statistics(call, rows, regions, block_logits=2**20, backend="dense"):
    chosen = BACKENDS[backend](group_rows(rows, regions, device=torch.device("cpu")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BLOCK_LOGITS, "cpu", block_logits)
        chosen.observe(0, call)
        chosen.finish()
    return chosen.layers[0]


def naive_probabilities(call, visible):
    """visible: [batch, 1 or head, query, key]."""
    group = call.query.shape[1] // call.key.shape[1]
    keys = call.key.double().repeat_interleave(group, dim=1)
    logits = call.query.double() @ keys.transpose(2, 3) * call.scaling
    if call.softcap is not None:
        logits = torch.tanh(logits / call.softcap) * call.softcap
    logits = logits.masked_fill(~visible, -torch.inf)
    if call.sinks is None:
        return logits.softmax(dim=-1)
    sinks = call.sinks.double().reshape(1, -1, 1, 1).expand(*logits.shape[:-1], 1)
    return torch.cat([logits, sinks], dim=-1).softmax(dim=-1)[..., :-1]


@st.composite
def calls(draw):
    kv_heads, group, dim = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 4, 12]))
    batch, queries, cached = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(0, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    heads, keys = kv_heads * group, queries + cached
    visible = torch.rand(batch, draw(st.sampled_from([1, heads])), queries, keys, generator=generator) < 0.7
    visible[..., -1] = True
    mask = visible
    if draw(st.booleans()):
        mask = torch.zeros(visible.shape).masked_fill(~visible, draw(st.sampled_from([-torch.inf, -3.4028e38])))
    size = draw(st.sampled_from([0.1, 1.0, 6.0]))
    call = AttentionCall(
        query=torch.randn(batch, heads, queries, dim, generator=generator) * size,
        key=torch.randn(batch, kv_heads, keys, dim, generator=generator) * size,
        mask=mask,
        scaling=dim**-0.5,
        softcap=draw(st.sampled_from([None, 3.0])),
        sinks=draw(st.sampled_from([None, torch.randn(heads, generator=generator) * 3])),
    )
    num_rows = draw(st.integers(1, 6))
    rows = QueryRows(
        torch.randint(0, batch, (num_rows,), generator=generator),
        torch.randint(0, queries, (num_rows,), generator=generator),
    )
    regions = torch.randint(0, 7, (batch, keys), generator=generator, dtype=torch.int8)
    return call, visible, rows, regions, draw(st.sampled_from([1, 20, 200, 2**20]))


@settings(max_examples=60)
@given(calls(), st.sampled_from(["dense", "deferred"]))
def test_any_shape_and_mask_is_a_softmax(drawn, backend):
    call, visible, rows, regions, block_logits = drawn
    layer = statistics(call, rows, regions, block_logits, backend)
    reference = from_probabilities(naive_probabilities(call, visible), rows, regions)
    assert largest_difference(layer, reference) < 5e-5
    assert float((layer.mass.sum(dim=-1) - 1).abs().max()) < 1e-5


def one_head(keys, mask=None, **options):
    """A query of 1 over scalar keys: the logits are the keys."""
    key = torch.tensor(keys)[None, None, :, None]
    return AttentionCall(query=torch.ones(1, 1, 1, 1), key=key, mask=mask, scaling=1.0, **options)


FIRST_ROW = QueryRows(torch.tensor([0]), torch.tensor([0]))


def of_regions(*regions):
    return torch.tensor([regions], dtype=torch.int8)


def test_hit_needs_evidence_alone_at_the_top():
    assert statistics(one_head([1.0, 2.0, 0.0]), FIRST_ROW, of_regions(6, 0, 6)).hit.item() is True
    assert statistics(one_head([1.0, 2.0, 2.5]), FIRST_ROW, of_regions(6, 0, 6)).hit.item() is False
    assert statistics(one_head([2.0, 2.0, 0.0]), FIRST_ROW, of_regions(6, 0, 6)).hit.item() is False
    assert statistics(one_head([2.0, 2.0, 0.0]), FIRST_ROW, of_regions(0, 0, 6)).hit.item() is True


def test_a_region_without_keys_has_no_mass():
    layer = statistics(one_head([1.0, 2.0]), FIRST_ROW, of_regions(6, 3))
    assert layer.mass[0, 0, 0].item() == layer.peak_evidence.item() == 0.0
    assert layer.hit.item() is False


def test_a_uniform_row_has_the_entropy_of_its_visible_keys():
    visible = torch.tensor([True, True, False, True])[None, None, None]
    layer = statistics(one_head([3.0] * 4, visible), FIRST_ROW, of_regions(0, 6, 0, 6))
    assert layer.entropy_nats.item() == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-6)
    assert layer.peak_evidence.item() == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize("backend", ["dense", "deferred"])
def test_a_row_that_sees_nothing_is_not_a_number(backend):
    hidden = torch.zeros(1, 1, 1, 4, dtype=torch.bool)
    layer = statistics(one_head([1.0] * 4, hidden), FIRST_ROW, of_regions(0, 6, 0, 6), backend=backend)
    assert layer.mass.isnan().all()
    assert layer.peak_evidence.isnan().all()
    assert layer.entropy_nats.isnan().all()
    assert not layer.hit.any()
    hidden[..., 3] = True
    layer = statistics(one_head([1.0] * 4, hidden), FIRST_ROW, of_regions(0, 6, 0, 6), backend=backend)
    assert layer.mass[0, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]


def test_a_sink_far_above_the_keys_takes_all_without_overflow():
    layer = statistics(one_head([1.0, 2.0], sinks=torch.tensor([500.0])), FIRST_ROW, of_regions(0, 6))
    assert layer.mass[0, 0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert layer.entropy_nats.item() == 0
    layer = statistics(one_head([1.0, 2.0], sinks=torch.tensor([-500.0])), FIRST_ROW, of_regions(0, 6))
    assert layer.mass[0, 0, 7].item() == 0


def test_rows_keep_their_order():
    generator = torch.Generator().manual_seed(0)
    call = AttentionCall(
        query=torch.randn(3, 2, 5, 4, generator=generator),
        key=torch.randn(3, 2, 5, 4, generator=generator),
        mask=None,
        scaling=0.5,
    )
    regions = torch.randint(0, 7, (3, 5), generator=generator, dtype=torch.int8)
    rows = QueryRows(torch.tensor([2, 0, 2, 1, 0]), torch.tensor([4, 1, 2, 3, 4]))
    together = statistics(call, rows, regions)
    for row in range(5):
        alone = statistics(call, QueryRows(rows.batch[row : row + 1], rows.position[row : row + 1]), regions)
        torch.testing.assert_close(together.mass[:, row], alone.mass[:, 0], atol=1e-6, rtol=0)
    assert not torch.allclose(together.mass[:, 0], together.mass[:, 1])
