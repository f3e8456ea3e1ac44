from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from rampipe.attention import windowed
from rampipe.attention.hybrid import hybrid_attention
from rampipe.attention.hybrid_plan import CacheSize, HeadShape, HybridPlan, kv_sparsity, predicted_cache_bytes
from rampipe.attention.split_cache import PreallocatedCache, SplitLayer, num_cache_bytes
from rampipe.errors import ConfigError, ModelError
from rampipe.types import HeadId
from tests.unit.attention.hybrid_oracle import oracle_logits
from tests.unit.attention.test_hybrid import ALL, MIXED, plan, run, some_text
from tests.unit.attention.tiny_models import IMAGE_TOKEN, build, prompt

SHAPE = HeadShape(num_heads=4, num_kv_heads=2)
HEAD_BYTES = 2 * 8 * 4  # keys and values, 8 numbers, float32
NUM_PROMPT, NUM_ALL = 28, 40


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(windowed, "BLOCK_ROWS", 8)


def sliced(inputs, start, stop):
    """The columns of a whole prompt that one forward gets, with the mask of everything up to `stop`."""
    chosen = {name: tensor[:, start:stop] for name, tensor in inputs.items() if name == "input_ids"}
    return {**chosen, "attention_mask": inputs["attention_mask"][:, :stop]}


def step_by_step(model, inputs, hybrid, *, step=1):
    """(logits of every decoded position, the cache), the prompt first and then `step` tokens at a time."""
    cache = hybrid.new_cache(capacity_tokens=NUM_ALL)
    run(model, sliced(inputs, 0, NUM_PROMPT), past_key_values=cache, use_cache=True)
    logits = [
        run(model, sliced(inputs, start, start + step), past_key_values=cache, use_cache=True)
        for start in range(NUM_PROMPT, NUM_ALL, step)
    ]
    return torch.cat(logits, dim=1), cache


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("window", [1, 6, 35])
@pytest.mark.parametrize("with_text", [False, True])
def test_every_decoded_row_is_what_the_definition_says(step, padding, window, with_text):
    model = build("qwen2")
    inputs, _, real = prompt("qwen2", padding=padding)
    text = some_text(real) if with_text else None
    chosen = plan(text=with_text, window=window)
    expected = oracle_logits(model, inputs, chosen, text=text)[:, NUM_PROMPT:]
    with hybrid_attention(model, chosen, text_keys=text) as hybrid:
        logits, _ = step_by_step(model, inputs, hybrid, step=step)
    assert (logits - expected).abs().max() < 1e-5
    dense = run(model, inputs)[:, NUM_PROMPT:]
    assert window == 35 or (logits - dense).abs().max() > 1e-2


@pytest.mark.parametrize("full", [(), (0,), (1, 2), (0, 1), (0, 1, 3)])
def test_decoding_every_mix_of_heads_in_a_group(full):
    model = build("qwen2")
    inputs, _, real = prompt("qwen2", batch=2)
    text = some_text(real)
    chosen = plan([HeadId(layer, head) for layer in range(3) for head in full], text=True)
    expected = oracle_logits(model, inputs, chosen, text=text)[:, NUM_PROMPT:]
    with hybrid_attention(model, chosen, text_keys=text) as hybrid:
        logits, _ = step_by_step(model, inputs, hybrid)
    assert (logits - expected).abs().max() < 1e-5


@pytest.mark.parametrize("with_text", [False, True])
def test_the_cache_has_the_bytes_that_the_plan_predicts(with_text):
    model = build("qwen2")
    inputs, _, real = prompt("qwen2", padding="none", batch=2)
    text = some_text(real) if with_text else None
    sizes = {}
    for name, chosen in (("mixed", plan(text=with_text)), ("all", plan(ALL, text=with_text))):
        with hybrid_attention(model, chosen, text_keys=text) as hybrid:
            _, cache = step_by_step(model, inputs, hybrid)
        kept_text = 0 if text is None else int(text[0, 2:].sum())
        size = CacheSize(capacity_tokens=NUM_ALL, head_bytes=HEAD_BYTES, batch=2)
        predicted = predicted_cache_bytes(chosen, SHAPE, layers=range(3), size=size, num_kept_text=kept_text)
        assert num_cache_bytes(cache) == predicted
        sizes[name] = predicted
    dense = PreallocatedCache(model.config, capacity_tokens=NUM_ALL)
    run(model, inputs, past_key_values=dense, use_cache=True)
    assert num_cache_bytes(dense) == sizes["all"] == 2 * 3 * 2 * NUM_ALL * HEAD_BYTES
    near = 6 + 2 + (int(text[0, 2:].sum()) if with_text else 0)
    assert sizes["mixed"] == 2 * (2 * NUM_ALL + 4 * near) * HEAD_BYTES < sizes["all"]


def test_the_cache_holds_nothing_of_what_left_the_window():
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2", batch=1)
    dense = DynamicCache(config=model.config)
    run(model, inputs, past_key_values=dense, use_cache=True)
    with hybrid_attention(model, plan(), text_keys=None) as hybrid:
        _, cache = step_by_step(model, inputs, hybrid)
    layer = cache.layers[0]  # its input is the same whatever the plan
    assert isinstance(layer, SplitLayer)
    assert (layer.full_kv, layer.near_kv) == ((0,), (1,))
    torch.testing.assert_close(layer.full[0][:, 0], dense.layers[0].keys[:, 0])
    held = {tuple(key.tolist()) for key in layer.near[0][0, 0].round(decimals=3)}
    of_dense = [tuple(key.tolist()) for key in dense.layers[0].keys[0, 1].round(decimals=3)]
    assert [position for position, key in enumerate(of_dense) if key in held] == [0, 1, 34, 35, 36, 37, 38, 39]


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("family", ["qwen2", "qwen2_vl"])
def test_generate_with_nothing_hidden_is_dense_bit_for_bit(family, padding):
    model = build(family)
    inputs, _, _ = prompt(family, padding=padding)
    wanted = {"max_new_tokens": 8, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    dense = model.generate(**inputs, **wanted, eos_token_id=None)
    preallocated = PreallocatedCache(model.config.get_text_config(), capacity_tokens=48)
    again = model.generate(**inputs, **wanted, eos_token_id=None, past_key_values=preallocated)
    assert all(torch.equal(a, b) for a, b in zip(dense.logits, again.logits, strict=True))
    for chosen, same in ((plan(ALL), True), (plan((), window=48), True), (plan(MIXED), False)):
        with hybrid_attention(model, chosen, text_keys=None) as hybrid:
            cache = hybrid.new_cache(capacity_tokens=48)
            result = model.generate(**inputs, **wanted, eos_token_id=None, past_key_values=cache)
        assert all(torch.equal(a, b) for a, b in zip(dense.logits, result.logits, strict=True)) == same


@pytest.mark.parametrize("padding", ["none", "left"])
def test_generate_with_images_is_what_the_definition_says(padding):
    model = build("qwen2_vl")
    inputs, _, real = prompt("qwen2_vl", padding=padding)
    text = (inputs["input_ids"] != IMAGE_TOKEN) & real
    text[:, 20:30] = False  # some of it leaves the window
    chosen = plan(text=True)
    wanted = {"max_new_tokens": 8, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    with hybrid_attention(model, chosen, text_keys=text) as hybrid:
        cache = hybrid.new_cache(capacity_tokens=48)
        result = model.generate(**inputs, **wanted, eos_token_id=None, past_key_values=cache)
    whole = {**inputs, "input_ids": result.sequences}
    for name, fill in (("attention_mask", 1), ("mm_token_type_ids", 0)):
        whole[name] = torch.nn.functional.pad(inputs[name], (0, 8), value=fill)
    logits = torch.stack(result.logits, dim=1)
    assert (oracle_logits(model, whole, chosen, text=text)[:, 39:47] - logits).abs().max() < 1e-5
    assert (run(model, whole)[:, 39:47] - logits).abs().max() > 1e-2


def test_beams_carry_the_cache_along():
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2", batch=2)
    wanted = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False, "eos_token_id": None}
    with hybrid_attention(model, plan(), text_keys=None) as hybrid:
        split = model.generate(**inputs, **wanted, past_key_values=hybrid.new_cache(capacity_tokens=46))
        dynamic = model.generate(**inputs, **wanted)
    assert torch.equal(split, dynamic)
    assert not torch.equal(split, model.generate(**inputs, **wanted))


def test_a_full_cache_says_how_to_make_room():
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2")
    too_small = PreallocatedCache(model.config, capacity_tokens=39)
    with pytest.raises(ModelError, match=r"0 \+ 40 tokens; allowed: 39"):
        run(model, inputs, past_key_values=too_small, use_cache=True)
    run(model, inputs, past_key_values=PreallocatedCache(model.config, capacity_tokens=40), use_cache=True)


def test_the_cache_is_of_no_use_outside_of_its_context():
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2")
    with hybrid_attention(model, plan(), text_keys=None) as hybrid:
        cache = hybrid.new_cache(capacity_tokens=48)
        run(model, inputs, past_key_values=cache, use_cache=True)
    with pytest.raises(ModelError, match="read by an ordinary attention function"):
        run(model, {"input_ids": inputs["input_ids"][:, :1]}, past_key_values=cache, use_cache=True)
    with pytest.raises(ModelError, match="crop of -1"):
        cache.crop(-1)


def test_a_reset_cache_starts_anew():
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2")
    with hybrid_attention(model, plan(), text_keys=None) as hybrid:
        cache = hybrid.new_cache(capacity_tokens=48)
        new = {"input_ids": inputs["input_ids"][:, :1]}
        first = [run(model, item, past_key_values=cache, use_cache=True) for item in (inputs, new)]
        cache.reset()
        assert (cache.get_seq_length(), num_cache_bytes(cache)) == (0, 0)
        second = [run(model, item, past_key_values=cache, use_cache=True) for item in (inputs, new)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_both_sparsities():
    chosen = HybridPlan(MIXED)
    sparsity = kv_sparsity(chosen, SHAPE, layers=range(3))
    assert sparsity.restricted_head_frac == 9 / 12
    assert sparsity.restricted_kv_head_frac == 4 / 6
    assert kv_sparsity(HybridPlan(ALL), SHAPE, layers=range(3)).restricted_kv_head_frac == 0
    with pytest.raises(ConfigError, match="0 layers"):
        kv_sparsity(chosen, SHAPE, layers=[])
