from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention import windowed
from rampipe.attention.capture import QueryRows, capture_attention
from rampipe.attention.hybrid import HybridAttention, hybrid_attention
from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.attention.interface import observe_attention
from rampipe.attention.mask import silence_heads
from rampipe.attention.silence import Silence
from rampipe.errors import ConfigError, ModelError, SampleError
from rampipe.types import HeadId
from tests.unit.attention.hybrid_oracle import oracle_logits
from tests.unit.attention.tiny_models import IMAGE_TOKEN, WINDOW, build, prompt

ALL = frozenset(HeadId(layer, head) for layer in range(3) for head in range(4))
MIXED = frozenset({HeadId(0, 0), HeadId(1, 2), HeadId(1, 3)})
"""Layer 0: a group half full. Layer 1: a whole group. Layer 2: none."""


def plan(full=MIXED, *, sink=2, window=6, text=False):
    return HybridPlan(frozenset(full), sink_tokens=sink, window_tokens=window, keep_text=text)


@torch.no_grad()
def run(model, inputs, **arguments):
    return model(**inputs, **{"use_cache": False, **arguments}).logits


def hybrid_logits(model, inputs, chosen, *, text=None):
    with hybrid_attention(model, chosen, text_keys=text):
        return run(model, inputs)


def some_text(real):
    """Every fifth key, and two near the end."""
    text = torch.zeros_like(real)
    text[:, 3::5] = True
    text[:, -3:-1] = True
    return text & real


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(windowed, "BLOCK_ROWS", 8)


@pytest.mark.parametrize("family", ["qwen2", "qwen3_wide_heads", "qwen2_vl"])
@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("with_text", [False, True])
def test_prefill_is_what_the_definition_says(family, padding, with_text):
    model = build(family)
    inputs, _, real = prompt(family, padding=padding)
    text = some_text(real) if with_text else None
    chosen = plan(text=with_text)
    expected = oracle_logits(model, inputs, chosen, text=text)[real]
    assert (hybrid_logits(model, inputs, chosen, text=text)[real] - expected).abs().max() < 1e-5
    assert (run(model, inputs)[real] - expected).abs().max() > 1e-2


@pytest.mark.parametrize("num_tokens", [7, 8, 9, 17, 33, 40])
@pytest.mark.parametrize(("sink", "window"), [(0, 1), (2, 6), (5, 3), (3, 12), (1, 20), (50, 1), (1, 50)])
def test_every_length_window_and_sink(num_tokens, sink, window):
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2", num_tokens=num_tokens, batch=1)
    chosen = plan(sink=sink, window=window)
    expected = oracle_logits(model, inputs, chosen)
    assert (hybrid_logits(model, inputs, chosen) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("full", [(), (0,), (0, 1), (0, 1, 2), (1, 3)])
def test_every_mix_of_heads_in_a_group(full):
    model = build("qwen2")
    inputs, _, real = prompt("qwen2", batch=2)
    chosen = plan([HeadId(layer, head) for layer in range(3) for head in full], text=True)
    text = some_text(real)
    expected = oracle_logits(model, inputs, chosen, text=text)
    assert (hybrid_logits(model, inputs, chosen, text=text) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("family", ["qwen2", "qwen2_vl"])
def test_with_nothing_hidden_it_is_dense_bit_for_bit(family, padding):
    model = build(family)
    inputs, _, real = prompt(family, padding=padding)
    dense = run(model, inputs)
    assert torch.equal(hybrid_logits(model, inputs, plan(ALL)), dense)
    assert torch.equal(hybrid_logits(model, inputs, plan((), window=40)), dense)
    assert torch.equal(hybrid_logits(model, inputs, plan((), text=True), text=torch.ones_like(real)), dense)
    assert not torch.equal(hybrid_logits(model, inputs, plan(ALL - {HeadId(1, 1)})), dense)
    assert not torch.equal(hybrid_logits(model, inputs, plan((), window=8)), dense)


def test_no_row_sees_the_future():
    model = build("qwen2")
    inputs, _, real = prompt("qwen2", batch=1)
    text, chosen = some_text(real), plan(text=True)
    before = hybrid_logits(model, inputs, chosen, text=text)
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][:, 25] = 3 + changed["input_ids"][:, 25] % 50
    after = hybrid_logits(model, changed, chosen, text=text)
    assert torch.equal(before[:, :25], after[:, :25])
    assert not torch.equal(before[:, 25:], after[:, 25:])


def test_what_left_the_window_is_lost_unless_it_is_kept():
    model = build("qwen2")
    inputs, _, real = prompt("qwen2", batch=1)
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][:, 10] = 3 + changed["input_ids"][:, 10] % 50
    text = torch.zeros_like(real)
    text[:, 10] = True
    last = [hybrid_logits(model, item, plan(()))[:, -1] for item in (inputs, changed)]
    assert torch.equal(*last)
    kept = [hybrid_logits(model, item, plan((), text=True), text=text)[:, -1] for item in (inputs, changed)]
    assert not torch.equal(*kept)
    full = [hybrid_logits(model, item, plan({HeadId(0, 0)}))[:, -1] for item in (inputs, changed)]
    assert not torch.equal(*full)


@pytest.mark.parametrize("batch", [1, 2])
def test_decoding_over_a_dynamic_cache_is_the_same(batch):
    model = build("qwen2")
    inputs, _, real = prompt("qwen2", batch=batch)
    text, chosen = some_text(real), plan(text=True)
    whole = oracle_logits(model, inputs, chosen, text=text)
    cache = DynamicCache(config=model.config)
    with hybrid_attention(model, chosen, text_keys=text):
        run(model, {"input_ids": inputs["input_ids"][:, :30]}, past_key_values=cache, use_cache=True)
        for step in range(30, 40):
            new = inputs["input_ids"][:, step : step + 1]
            logits = run(model, {"input_ids": new}, past_key_values=cache, use_cache=True)
            assert (logits[:, 0] - whole[:, step]).abs().max() < 1e-5


def test_a_layer_with_its_own_window_stays_as_it_is():
    model = build("gemma3_mixed")
    inputs, _, _ = prompt("gemma3_mixed")
    dense = run(model, inputs)
    assert torch.equal(hybrid_logits(model, inputs, plan([HeadId(1, head) for head in range(4)])), dense)
    assert not torch.equal(hybrid_logits(model, inputs, plan(())), dense)


@pytest.mark.parametrize("full", [{HeadId(0, 1)}, {HeadId(0, 1), HeadId(1, 2), HeadId(2, 3)}])
@pytest.mark.parametrize("padding", ["none", "left"])
def test_a_full_head_of_a_layer_with_its_own_window_sees_that_window(full, padding):
    model = build("gemma3_mixed")
    inputs, _, real = prompt("gemma3_mixed", padding=padding)
    expected = oracle_logits(model, inputs, plan(full), windows={0: WINDOW, 2: WINDOW})[real]
    assert (hybrid_logits(model, inputs, plan(full))[real] - expected).abs().max() < 1e-5
    seen_whole = oracle_logits(model, inputs, plan(full), windows={2: WINDOW})[real]
    assert (seen_whole - expected).abs().max() > 1e-3
    with pytest.raises(ConfigError, match=r"full head 3\.0 .*allowed: layers 0-2 and heads 0 to 3"):
        hybrid_logits(model, inputs, plan({HeadId(3, 0)}))


def test_the_same_modules_and_registry_are_dense_afterwards():
    model, other = build("qwen2"), build("qwen2", seed=5)
    inputs, _, _ = prompt("qwen2")
    before, attention = ALL_ATTENTION_FUNCTIONS["sdpa"], model.get_decoder().layers[1].self_attn
    dense, other_dense = run(model, inputs), run(other, inputs)
    with pytest.raises(KeyError, match="planted"), hybrid_attention(model, plan(), text_keys=None):
        assert isinstance(ALL_ATTENTION_FUNCTIONS["sdpa"], HybridAttention)
        assert attention in ALL_ATTENTION_FUNCTIONS["sdpa"].modules
        assert torch.equal(run(other, inputs), other_dense)
        assert not torch.equal(run(model, inputs), dense)
        raise KeyError("planted")
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before
    assert model.get_decoder().layers[1].self_attn is attention
    assert torch.equal(run(model, inputs), dense)


def test_the_order_of_arms_changes_nothing():
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2")
    arms = [plan(), plan(ALL), plan((), window=9), plan({HeadId(2, 1)})]
    forward = [hybrid_logits(model, inputs, arm) for arm in arms]
    backward = [hybrid_logits(model, inputs, arm) for arm in reversed(arms)]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert not torch.equal(forward[0], forward[2])


def test_image_tokens_leave_the_window_and_text_stays():
    model = build("qwen2_vl")
    inputs, _, real = prompt("qwen2_vl", padding="left")
    text = (inputs["input_ids"] != IMAGE_TOKEN) & real
    changed = {**inputs, "pixel_values": inputs["pixel_values"] * 0.5}
    chosen = plan((), text=True)
    last = [hybrid_logits(model, item, chosen, text=text)[:, -1] for item in (inputs, changed)]
    assert not torch.equal(*last)  # images reach the end through text in between
    expected = oracle_logits(model, inputs, chosen, text=text)[real]
    assert (hybrid_logits(model, inputs, chosen, text=text)[real] - expected).abs().max() < 1e-5


def test_bfloat16_is_as_near_to_the_definition_as_dense_is():
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2")
    expected, dense = oracle_logits(model, inputs, plan()), run(model, inputs)
    model.to(torch.bfloat16)
    noise = (run(model, inputs) - dense).abs().max()
    assert (hybrid_logits(model, inputs, plan()) - expected).abs().max() < 2 * noise
    assert (dense - expected).abs().max() > 4 * noise


def test_what_would_be_wrong_is_refused():
    model = build("qwen2")
    inputs, regions, _ = prompt("qwen2")
    with pytest.raises(ConfigError, match="keep_text without text_keys"):
        hybrid_logits(model, inputs, plan(text=True))
    with pytest.raises(ConfigError, match=r"full head 2\.4"):
        hybrid_logits(model, inputs, plan({HeadId(2, 4)}))
    with pytest.raises(SampleError, match="text_keys: 2 sequences, but the forward has 3"):
        hybrid_logits(model, inputs, plan(text=True), text=torch.ones(2, 40, dtype=torch.bool))
    with pytest.raises(ModelError, match="allowed: sdpa"):
        hybrid_logits(build("qwen2", "eager"), inputs, plan())
    static = StaticCache(config=model.config, max_cache_len=64)
    run(model, inputs, past_key_values=static, use_cache=True)
    with pytest.raises(ModelError, match="as with a static cache"), hybrid_attention(model, plan(), text_keys=None):
        run(model, {"input_ids": inputs["input_ids"][:, :1]}, past_key_values=static, use_cache=True)
    rows = QueryRows(torch.tensor([0]), torch.tensor([39]))
    with (
        pytest.raises(ModelError, match="one at a time"),
        capture_attention(model, rows=rows, regions=regions),
        hybrid_attention(model, plan(), text_keys=None),
    ):
        pass
    model.train()
    model.get_decoder().layers[0].self_attn.attention_dropout = 0.1
    with pytest.raises(ModelError, match=r"dropout is 0\.1"):
        hybrid_logits(model, inputs, plan())


@pytest.mark.parametrize("mode", ["evidence_knockout", "uniform"])
def test_no_recomputed_heads_within_hybrid_attention_as_they_would_see_every_key_again(mode, monkeypatch):
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2")
    evidence = torch.zeros(3, 40, dtype=torch.bool)
    evidence[:, 30] = True
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][:, 5] += 1  # a key that no chain of windows brings to the last row
    silence = Silence(frozenset({HeadId(0, 0)}), mode=mode, evidence=evidence)
    with hybrid_attention(model, plan(()), text_keys=None):
        with (
            pytest.raises(ModelError, match=r"silence_heads .* within hybrid_attention"),
            silence_heads(model, silence),
        ):
            pass
        with silence_heads(model, Silence(frozenset({HeadId(0, 0)}))):  # a removed head needs no keys
            assert torch.equal(run(model, inputs)[:, -1], run(model, changed)[:, -1])
        monkeypatch.setattr(HybridAttention, "is_observable", True)  # twin: what the refusal prevents
        with silence_heads(model, silence):
            assert not torch.equal(run(model, inputs)[:, -1], run(model, changed)[:, -1])


def test_no_capture_within_hybrid_attention_as_it_would_be_of_dense_heads(monkeypatch):
    model = build("qwen2")
    inputs, regions, _ = prompt("qwen2")
    rows = QueryRows(torch.tensor([0]), torch.tensor([39]))
    with hybrid_attention(model, plan(()), text_keys=None):
        with (
            pytest.raises(ModelError, match=r"capture_attention within hybrid_attention \(HybridAttention"),
            capture_attention(model, rows=rows, regions=regions),
        ):
            pass
        with (
            pytest.raises(ModelError, match=r"observe_attention .* within hybrid_attention"),
            observe_attention(model.get_decoder(), lambda module, call: None),
        ):
            pass
        monkeypatch.setattr(HybridAttention, "is_observable", True)  # twin: what the refusal prevents
        with torch.no_grad(), capture_attention(model, rows=rows, regions=regions) as recorder:
            run(model, inputs)
    with torch.no_grad(), capture_attention(model, rows=rows, regions=regions) as dense:
        run(model, inputs)
    assert torch.equal(recorder.layers[0].mass, dense.layers[0].mass)  # though heads of layer 0 saw 8 of 40 keys


@pytest.mark.parametrize(("field", "value"), [("window_tokens", 0), ("sink_tokens", -1), ("dense_below_tokens", -1)])
def test_a_plan_that_hides_too_much_or_makes_no_sense_is_refused(field, value):
    with pytest.raises(ConfigError, match=f"{field} is {value}"):
        HybridPlan(frozenset(), **{field: value})
