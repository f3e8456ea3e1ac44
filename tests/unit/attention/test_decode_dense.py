"""Packed decoding is the library's, in another order of sums, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers import DynamicCache, StaticCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention import decode_dense
from rampipe.attention.capture import QueryRows, capture_attention
from rampipe.attention.decode_dense import PackedDecode, packed_decode
from rampipe.attention.hybrid import hybrid_attention
from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.attention.split_cache import PreallocatedCache
from rampipe.errors import ModelError
from tests.unit.attention.tiny_models import build, prompt

NUM_PROMPT, NUM_ALL = 28, 34


@torch.no_grad()
def decoded(model, inputs, make_cache):
    """Logits of the prompt and of each following token."""
    ids, mask, cache = inputs["input_ids"], inputs["attention_mask"], make_cache(model)
    position = (mask.cumsum(dim=1) - 1).clamp_min(0)
    logits = []
    for start, stop in [(0, NUM_PROMPT), *((n, n + 1) for n in range(NUM_PROMPT, NUM_ALL))]:
        here = {"input_ids": ids[:, start:stop], "attention_mask": mask[:, :stop]}
        output = model(**here, position_ids=position[:, start:stop], past_key_values=cache, use_cache=True)
        logits.append(output.logits)
    return torch.cat(logits, dim=1)


CACHES = {
    "dynamic": lambda model: DynamicCache(config=model.config),
    "static": lambda model: StaticCache(config=model.config, max_cache_len=NUM_ALL),
    "preallocated": lambda model: PreallocatedCache(model.config, capacity_tokens=NUM_ALL),
}


@pytest.fixture
def packed_rows(monkeypatch):
    """Shapes of the query of every packed product."""
    shapes, correct = [], functional.scaled_dot_product_attention

    def counted(query, *tensors, **arguments):
        shapes.append(tuple(query.shape))
        return correct(query, *tensors, **arguments)

    monkeypatch.setattr(decode_dense.functional, "scaled_dot_product_attention", counted)
    return shapes


@pytest.mark.parametrize("family", ["qwen2", "qwen3_wide_heads", "mistral_sliding", "gemma3_mixed"])
@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("cache", CACHES)
def test_it_decodes_what_the_library_decodes(family, padding, cache):
    model = build(family)
    inputs, _, real = prompt(family, padding=padding, num_tokens=NUM_ALL)
    expected = decoded(model, inputs, CACHES[cache])
    with packed_decode(model):
        found = decoded(model, inputs, CACHES[cache])
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=0)
    assert torch.equal(found[:, :NUM_PROMPT][real[:, :NUM_PROMPT]], expected[:, :NUM_PROMPT][real[:, :NUM_PROMPT]])
    blind = {**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])}
    assert padding == "none" or not torch.allclose(decoded(model, blind, CACHES[cache]), found, atol=1e-3)


def test_every_row_of_every_layer_is_packed(packed_rows):
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2", num_tokens=NUM_ALL, batch=2)
    with packed_decode(model):
        decoded(model, inputs, CACHES["dynamic"])
    num_rows = 3 * (NUM_ALL - NUM_PROMPT)
    assert [shape for shape in packed_rows if shape == (2, 2, 2, 8)] == [(2, 2, 2, 8)] * num_rows
    packed_rows.clear()
    decoded(model, inputs, CACHES["dynamic"])
    assert (2, 2, 2, 8) not in packed_rows


def test_a_mask_of_each_head_goes_to_its_head():
    model = build("qwen2")
    module = model.get_decoder().layers[0].self_attn
    torch.manual_seed(0)
    query, (key, value) = torch.randn(2, 4, 1, 8), torch.randn(2, 2, 2, 9, 8)
    boolean = torch.rand(2, 4, 1, 9) > 0.4
    boolean[..., 0] = True
    additive = torch.zeros(boolean.shape).masked_fill(~boolean, torch.finfo(torch.float32).min)
    library = ALL_ATTENTION_FUNCTIONS["sdpa"]
    for mask in (boolean, additive):
        expected, _ = library(module, query, key, value, mask, scaling=0.3)
        with packed_decode(model):
            found, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, mask, scaling=0.3)
        torch.testing.assert_close(found, expected)
        swapped, _ = library(module, query, key, value, mask.flip(1), scaling=0.3)
        assert not torch.allclose(found, swapped, atol=1e-3)


def test_the_registry_and_the_other_model_are_as_before():
    model, other = build("qwen2"), build("qwen2", seed=5)
    inputs, _, _ = prompt("qwen2", num_tokens=NUM_ALL)
    before = ALL_ATTENTION_FUNCTIONS["sdpa"]
    dense = decoded(other, inputs, CACHES["dynamic"])
    with pytest.raises(KeyError, match="planted"), packed_decode(model):
        entry = ALL_ATTENTION_FUNCTIONS["sdpa"]
        assert isinstance(entry, PackedDecode)
        assert model.get_decoder().layers[1].self_attn in entry.modules
        assert torch.equal(decoded(other, inputs, CACHES["dynamic"]), dense)
        raise KeyError("planted")
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before


def test_what_would_be_another_attention_is_refused():
    model = build("qwen2")
    inputs, regions, _ = prompt("qwen2")
    module = model.get_decoder().layers[0].self_attn
    query, key = torch.randn(1, 4, 1, 8), torch.randn(1, 2, 9, 8)
    with packed_decode(model):
        attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
        with pytest.raises(ModelError, match=r"mask of shape \(1, 9\)"):
            attend(module, query, key, key, torch.ones(1, 9, dtype=torch.bool), scaling=0.3)
        with pytest.raises(ModelError, match=r"dropout is 0\.1"):
            attend(module, query, key, key, None, scaling=0.3, dropout=0.1)
        with pytest.raises(ModelError, match="'position_bias'"):
            attend(module, query, key, key, None, scaling=0.3, position_bias=key)
        with (
            pytest.raises(ModelError, match=r"hybrid attention within PackedDecode.*one at a time"),
            hybrid_attention(model, HybridPlan(frozenset(), keep_text=False), text_keys=None),
        ):
            pass
        rows = QueryRows(torch.tensor([0]), torch.tensor([39]))
        with torch.no_grad(), capture_attention(model, rows=rows, regions=regions) as recorder:
            model(**inputs)
        assert sorted(recorder.layers) == [0, 1, 2]
        with pytest.raises(ModelError, match="packed decoding within PackedDecode"), packed_decode(model):
            pass
    eager = build("qwen2", "eager")
    with pytest.raises(ModelError, match=r"\['eager'\]; allowed: sdpa"), packed_decode(eager):
        pass
