"""No silenced or restricted run sees the future: every mode, in prefill and over a cache, padded and in a batch.

The modes are read from the source's own types, so that a new one is tested or the module does not import.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from itertools import product
from typing import get_args

import pytest
import torch
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention import hybrid as hybrid_module
from rampipe.attention import split_decode, windowed
from rampipe.attention.decode_dense import packed_decode
from rampipe.attention.hybrid import hybrid_attention
from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.attention.mask import Silence, silence_heads
from rampipe.attention.silence import SilenceMode, SilencePositions
from rampipe.types import HeadId
from tests.unit.attention.tiny_models import IMAGE_TOKEN, build

NUM_TOKENS, NUM_PADDING = 36, 5
IMAGE = slice(14, 20)
CONTEXT_STOP, PROMPT_STOP = 22, 26
HEADS = frozenset({HeadId(0, 1), HeadId(1, 0), HeadId(1, 3), HeadId(2, 2)})
OTHERS = frozenset({HeadId(0, 0), HeadId(1, 2)})
STEPS = {
    "prefill": (0, NUM_TOKENS),
    "decode": (0, PROMPT_STOP, PROMPT_STOP + 1, PROMPT_STOP + 5, *range(PROMPT_STOP + 6, NUM_TOKENS + 1)),
}
"""Where forwards begin and end. A step of several tokens over a cache has a future of its own."""

HYBRID_CHOICES = {"keep_text": (False, True), "dense_below_tokens": (0, NUM_TOKENS + 1)}
HYBRID_SIZES = {"full_heads": HEADS, "sink_tokens": 2, "window_tokens": 5}
assert {*HYBRID_CHOICES, *HYBRID_SIZES} == {field.name for field in fields(HybridPlan)}, "a field without a choice here"


@dataclass(frozen=True)
class Way:
    """One way to run a model; `enter` gives a context and what makes a cache in it."""

    name: str
    enter: object


def silence_way(mode, positions):
    @contextmanager
    def enter(model):
        generator = torch.Generator().manual_seed(3)
        evidence = torch.zeros(2, NUM_TOKENS, dtype=torch.bool)
        evidence[:, IMAGE] = True
        fields_of = {
            "context_stop": [CONTEXT_STOP] * 2,
            "prompt_stop": [PROMPT_STOP] * 2,
            "evidence": evidence,
            "means": {layer: torch.randn(4, 8, generator=generator) for layer in range(3)},
        }
        with silence_heads(model, Silence([HEADS, OTHERS], mode, positions, **fields_of)):
            yield lambda: DynamicCache(config=model.config.get_text_config())

    return Way(f"{mode}-{positions}", enter)


def hybrid_way(cache, choice):
    chosen = HybridPlan(**HYBRID_SIZES, **choice)

    @contextmanager
    def enter(model):
        text = torch.zeros(2, NUM_TOKENS, dtype=torch.bool)
        text[:, 7:13:3], text[:, 20:24] = True, True
        with hybrid_attention(model, chosen, text_keys=text if chosen.keep_text else None) as hybrid:
            dynamic = DynamicCache(config=model.config.get_text_config())
            yield lambda: hybrid.new_cache(capacity_tokens=NUM_TOKENS + 12) if cache == "split" else dynamic

    name = "-".join([cache, *(f"{key}={value}" for key, value in choice.items())])
    return Way(name, enter)


@contextmanager
def enter_packed(model):
    with packed_decode(model):
        yield lambda: DynamicCache(config=model.config.get_text_config())


WAYS = [
    *(silence_way(*pair) for pair in product(get_args(SilenceMode), get_args(SilencePositions))),
    *(
        hybrid_way(cache, dict(zip(HYBRID_CHOICES, choice, strict=True)))
        for cache, *choice in product(("split", "dynamic"), *HYBRID_CHOICES.values())
    ),
    Way("packed", enter_packed),
]
EVERY_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
EVERY_STEP = pytest.mark.parametrize("steps", STEPS)


@pytest.fixture(scope="module")
def model():
    return build("qwen2_vl")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(windowed, "BLOCK_ROWS", 8)


def two_samples(*, is_padded):
    """(inputs, real): text, an image, text; the second sequence may be padded on the left."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 60, (2, NUM_TOKENS), generator=generator)
    ids[:, IMAGE] = IMAGE_TOKEN
    real = torch.ones(2, NUM_TOKENS, dtype=torch.bool)
    real[1, : NUM_PADDING * is_padded] = False
    inputs = {
        "input_ids": ids.masked_fill(~real, 0),
        "attention_mask": real.long(),
        "mm_token_type_ids": (ids == IMAGE_TOKEN).int(),
        "image_grid_thw": torch.tensor([[1, 4, 6]] * 2),
        "pixel_values": torch.randn(48, 3 * 2 * 14 * 14, generator=generator),
    }
    return inputs, real


def with_later_tokens_changed(inputs, last):
    ids = inputs["input_ids"].clone()
    later = ids[:, last + 1 :]
    ids[:, last + 1 :] = torch.where(later == IMAGE_TOKEN, later, (later + 7 - 3) % 57 + 3)
    return {**inputs, "input_ids": ids}


@torch.no_grad()
def logits_of(model, way, inputs, steps, *, leak=nullcontext):
    """Logits of all rows, forward by forward."""
    parts, sizes = [], {name: inputs[name] for name in ("mm_token_type_ids", "image_grid_thw", "attention_mask")}
    position, _ = model.model.get_rope_index(inputs["input_ids"], **sizes)
    with way.enter(model) as new_cache, leak():
        cache = new_cache()
        for start, stop in zip(STEPS[steps][:-1], STEPS[steps][1:], strict=True):
            here = {
                "input_ids": inputs["input_ids"][:, start:stop],
                "attention_mask": inputs["attention_mask"][:, :stop],
            }
            if start == 0:
                here["mm_token_type_ids"] = inputs["mm_token_type_ids"][:, :stop]
                here |= {name: inputs[name] for name in ("image_grid_thw", "pixel_values")}
            here["position_ids"] = position[:, :, start:stop]
            parts.append(model(**here, past_key_values=cache, use_cache=True).logits)
    return torch.cat(parts, dim=1)


def largest_changes(model, way, steps, *, is_padded=True, **arguments):
    """Per change of the future: the largest change of a real row before it. The rows after it change, or it is void."""
    inputs, real = two_samples(is_padded=is_padded)
    before = logits_of(model, way, inputs, steps, **arguments)
    futures = {f"tokens after {last}": (last, with_later_tokens_changed(inputs, last)) for last in (11, 21, 27, 34)}
    futures["image"] = (IMAGE.start - 1, {**inputs, "pixel_values": inputs["pixel_values"].flip(0) * 0.5})
    found = {}
    for name, (last, changed) in futures.items():
        change = (logits_of(model, way, changed, steps, **arguments) - before).abs().amax(dim=-1)
        assert bool((change[:, last + 1 :] > 0).any()), f"{name}: no row noticed the change"
        found[name] = float(change[:, : last + 1][real[:, : last + 1]].max())
    return found


@EVERY_WAY
@EVERY_STEP
@pytest.mark.parametrize("is_padded", [False, True])
def test_the_future_changes_no_earlier_row(model, way, steps, is_padded):
    """Exactly 0: the sums of a row have the same terms in the same order, whatever comes after it."""
    assert set(largest_changes(model, way, steps, is_padded=is_padded).values()) == {0.0}


@contextmanager
def glance_ahead():
    """Attention of whatever stands in the registry, plus a trace of the last value of the same forward."""
    name, inner = "sdpa", ALL_ATTENTION_FUNCTIONS["sdpa"]

    def leaking(module, query, key, value, attention_mask=None, **arguments):
        fresh = getattr(value, "incoming", None)
        last = (value if fresh is None else fresh[1])[:, :, -1].mean(dim=1)
        output, weights = inner(module, query, key, value, attention_mask, **arguments)
        return (output, weights) if hasattr(module, "qkv") else (output + 1e-3 * last[:, None, None], weights)

    ALL_ATTENTION_FUNCTIONS[name] = leaking
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS[name] = inner


@EVERY_WAY
def test_a_glance_ahead_is_found_in_every_mode(model, way):
    """Twin of the test above: 1e-3 of the last value, in the prefill and in a step of four tokens."""
    changes = largest_changes(model, way, "prefill", leak=glance_ahead)
    assert min(changes.values()) > 0
    assert largest_changes(model, way, "decode", leak=glance_ahead)["tokens after 27"] > 0


def hybrid_ways(**wanted):
    return [
        way for way in WAYS if all(f"{key}={value}" in way.name for key, value in wanted.items()) and "=" in way.name
    ]


@pytest.mark.parametrize("way", hybrid_ways(dense_below_tokens=0), ids=lambda way: way.name)
def test_a_window_that_is_not_causal_is_found(model, way, monkeypatch):
    """A restriction built wrongly: whole key blocks. Without padding, as the model's own mask would hide the fault."""

    def sees_its_block(self, block, kept_left):
        bias = self.key.new_zeros(block.stop - block.start, block.num_columns)
        bias[:, block.num_local + block.num_kept :] = torch.finfo(bias.dtype).min
        return bias

    monkeypatch.setattr(windowed._Columns, "_built_bias", sees_its_block)
    assert max(largest_changes(model, way, "prefill", is_padded=False).values()) > 1e-3


@pytest.mark.parametrize("way", hybrid_ways(dense_below_tokens=0), ids=lambda way: way.name)
def test_full_heads_that_are_not_causal_are_found(model, way, monkeypatch):
    correct = hybrid_module.dense_heads

    def sees_all(query, key, value, *, heads, scaling, mask):
        return correct(query, key, value, heads=heads, scaling=scaling, mask=torch.ones_like(mask))

    monkeypatch.setattr(hybrid_module, "dense_heads", sees_all)
    assert max(largest_changes(model, way, "prefill").values()) > 1e-3


@pytest.mark.parametrize("way", [way for way in WAYS if way.name.startswith("split")], ids=lambda way: way.name)
def test_a_step_that_sees_its_own_later_tokens_is_found(model, way, monkeypatch):
    """Storing the whole step first, then attending from its last position."""
    correct = split_decode._attend_row

    def all_at_once(layer, query, *, scaling, mask):
        states, last = layer.take_incoming(), layer.num_tokens - 1
        layer.store(states, position=layer.num_tokens - query.shape[2])
        seen = mask[:, 0, -1]
        rows = [correct(layer, row, position=last, scaling=scaling, mask=seen) for row in query.unbind(dim=2)]
        return torch.stack(rows, dim=1)

    monkeypatch.setattr(hybrid_module, "decode_attention", all_at_once)
    assert largest_changes(model, way, "decode")["tokens after 27"] > 1e-3
