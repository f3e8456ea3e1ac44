"""Short prompts are dense, what is decoded after them is not; and a ring that would not pay is not made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache, StaticCache

from rampipe.attention.hidden_bias import HiddenBias
from rampipe.attention.hybrid import hybrid_attention
from rampipe.attention.hybrid_plan import CacheSize, predicted_cache_bytes
from rampipe.attention.split_cache import PreallocatedCache, num_cache_bytes
from rampipe.errors import ModelError
from tests.unit.attention.hybrid_oracle import oracle_logits
from tests.unit.attention.test_hybrid import ALL, MIXED, plan, run, some_text
from tests.unit.attention.test_hybrid_cache import HEAD_BYTES, NUM_ALL, NUM_PROMPT, SHAPE, sliced
from tests.unit.attention.tiny_models import build, prompt


def in_steps(model, inputs, cache, *, first=NUM_PROMPT):
    """Logits of the prompt and, one by one, of each token after it."""
    parts = [sliced(inputs, 0, first), *(sliced(inputs, at, at + 1) for at in range(first, NUM_ALL))]
    return torch.cat([run(model, part, past_key_values=cache, use_cache=True) for part in parts], dim=1)


@pytest.mark.parametrize("cache", ["split", "dynamic", None])
@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("family", ["qwen2", "qwen2_vl"])
def test_a_prompt_below_the_threshold_is_dense_bit_for_bit(family, padding, cache):
    model = build(family)
    inputs, _, _ = prompt(family, padding=padding)
    dense = run(model, inputs)
    logits = {}
    for threshold in (0, NUM_ALL, NUM_ALL + 1):
        with hybrid_attention(model, replace(plan(), dense_below_tokens=threshold), text_keys=None) as hybrid:
            made = {"split": lambda: hybrid.new_cache(capacity_tokens=48), "dynamic": DynamicCache, None: lambda: None}
            logits[threshold] = run(model, inputs, past_key_values=made[cache](), use_cache=cache is not None)
    assert torch.equal(logits[NUM_ALL + 1], dense)
    assert torch.equal(logits[NUM_ALL], logits[0])
    assert not torch.equal(logits[0], dense)


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("with_text", [False, True])
@pytest.mark.parametrize("cache", ["split", "dynamic"])
def test_what_is_decoded_after_a_dense_prompt_is_restricted(padding, with_text, cache):
    model = build("qwen2")
    inputs, _, real = prompt("qwen2", padding=padding)
    text = some_text(real) if with_text else None
    chosen = replace(plan(text=with_text), dense_below_tokens=NUM_PROMPT + 1)
    with hybrid_attention(model, chosen, text_keys=text) as hybrid:
        made = hybrid.new_cache(capacity_tokens=NUM_ALL) if cache == "split" else DynamicCache(config=model.config)
        logits = in_steps(model, inputs, made)[real]
    expected = oracle_logits(model, inputs, chosen, text=text, num_dense=NUM_PROMPT)[real]
    assert (logits - expected).abs().max() < 1e-5
    for twin in (run(model, inputs), oracle_logits(model, inputs, chosen, text=text)):
        assert (logits - twin[real]).abs().max() > 1e-2


def test_a_dense_prompt_leaves_a_small_cache():
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2", batch=2)
    chosen = replace(plan(), dense_below_tokens=100)
    with hybrid_attention(model, chosen, text_keys=None) as hybrid:
        cache = hybrid.new_cache(capacity_tokens=NUM_ALL)
        in_steps(model, inputs, cache)
    size = CacheSize(capacity_tokens=NUM_ALL, head_bytes=HEAD_BYTES, batch=2)
    assert num_cache_bytes(cache) == predicted_cache_bytes(chosen, SHAPE, layers=range(3), size=size)
    dense = PreallocatedCache(model.config, capacity_tokens=NUM_ALL)
    run(model, inputs, past_key_values=dense, use_cache=True)
    assert num_cache_bytes(cache) < num_cache_bytes(dense)


def test_more_tokens_of_a_prompt_in_a_cache_are_no_prompt_of_their_own():
    """The split cache has dropped keys already: dense rows would differ between caches."""
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2")
    chosen = replace(plan(), dense_below_tokens=100)
    found = []
    for make in (lambda hybrid: hybrid.new_cache(capacity_tokens=NUM_ALL), lambda hybrid: DynamicCache()):
        with hybrid_attention(model, chosen, text_keys=None) as hybrid:
            cache = make(hybrid)
            run(model, sliced(inputs, 0, 20), past_key_values=cache, use_cache=True)
            found.append(run(model, sliced(inputs, 20, NUM_ALL), past_key_values=cache, use_cache=True))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)
    expected = oracle_logits(model, inputs, chosen, num_dense=20)[:, 20:]
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)
    assert not torch.allclose(found[0], run(model, inputs)[:, 20:], atol=1e-3)


def test_a_static_cache_is_refused_all_the_same():
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2")
    static = StaticCache(config=model.config, max_cache_len=64)
    chosen = replace(plan(), dense_below_tokens=100)
    with pytest.raises(ModelError, match="static cache"), hybrid_attention(model, chosen, text_keys=None):
        run(model, inputs, past_key_values=static, use_cache=True)


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("kept", ["text", "sinks"])
def test_without_room_to_save_every_key_is_held_and_hidden(padding, kept):
    model = build("qwen2")
    inputs, _, real = prompt("qwen2", padding=padding)
    text = real.clone()
    text[:, 10:13] = False
    chosen = plan(window=6, text=True) if kept == "text" else plan(window=14, sink=26)
    text = text if kept == "text" else None
    with hybrid_attention(model, chosen, text_keys=text) as hybrid:
        cache = hybrid.new_cache(capacity_tokens=NUM_ALL)
        logits = in_steps(model, inputs, cache)
    assert all(layer.near_kv == () and layer.full_kv == (0, 1) for layer in cache.layers)
    expected = oracle_logits(model, inputs, chosen, text=text)
    assert (logits - expected)[real].abs().max() < 1e-5
    dense = PreallocatedCache(model.config, capacity_tokens=NUM_ALL)
    plain = in_steps(model, inputs, dense)
    assert num_cache_bytes(cache) == num_cache_bytes(dense)
    assert kept == "sinks" or (logits - plain)[real].abs().max() > 1e-2


def test_rows_of_half_precision_heads_are_the_same_apart_or_packed(monkeypatch):
    from rampipe.attention import split_decode

    model = build("qwen2").to(torch.bfloat16)
    inputs, _, real = prompt("qwen2", padding="left")
    found = {}
    for most in (0, 2):
        monkeypatch.setattr(split_decode, "MAX_UNPACKED_GROUP", most)
        for full in (MIXED, ALL):
            with hybrid_attention(model, plan(full), text_keys=None) as hybrid:
                found[most, full] = in_steps(model, inputs, hybrid.new_cache(capacity_tokens=NUM_ALL))[real]
    apart = (found[2, MIXED] - found[0, MIXED]).abs().max()
    assert apart < 0.1 * (found[2, MIXED] - found[2, ALL]).abs().max()


def test_the_hidden_keys_grow_by_what_left_the_window():
    from rampipe.attention.kept_keys import KeptKeys

    hidden = HiddenBias(torch.tensor([[True, False]]), window=3, capacity_tokens=9)
    kept = [KeptKeys(0, (0, 2), torch.tensor([0, 2]))]
    assert hidden.row(2, kept, dtype=torch.float32) is None
    for position in (3, 4, 5, 8):
        bias = hidden.row(position, kept, dtype=torch.float32)
        seen = [j in (0, 2) or j > position - 3 for j in range(position + 1)]
        assert (bias[0, 0, 0] == 0).tolist() == seen
        assert (bias[0, 0, 1] == 0).all()
    hidden.forget()
    assert (hidden.row(4, kept, dtype=torch.float32)[0, 0, 0] == 0).tolist() == [True, False, True, True, True]
