"""Continuations side by side against whole forwards, for every way in which attention differs."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from rampipe.attention.prefix_cache import PrefixCache, can_continue, continuation_mask
from tests.unit.attention.tiny_models import FAMILIES

NUM_CONTEXT, PADDING = 15, 4
LENGTHS = (3, 1, 5)


def make_model(family):
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    if family not in ("gemma2_softcap", "gpt_oss_sinks"):  # sdpa has neither
        model.set_attn_implementation("sdpa")
    return model


def hidden_states(model, ids, mask, **kwargs):
    with torch.inference_mode():
        return model.base_model(input_ids=ids, attention_mask=mask, **kwargs).last_hidden_state


def positions_of(mask):
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def shaped(model, positions):
    """Multimodal rotary positions have three axes."""
    return positions.expand(3, -1, -1) if model.config.model_type == "qwen2_vl" else positions


def side_by_side(model, ids, mask, news):
    """Hidden states of each continuation, all from one forward behind a cached context."""
    cache = PrefixCache(model.config.get_text_config(decoder=True), capacity_tokens=NUM_CONTEXT + sum(LENGTHS))
    at = shaped(model, positions_of(mask))
    hidden_states(model, ids, mask, position_ids=at, past_key_values=cache, use_cache=True)
    offset = torch.cat([torch.arange(new.shape[1]) for new in news]).expand(2, -1)
    segment = torch.cat([torch.full((2, new.shape[1]), number) for number, new in enumerate(news)], dim=1)
    written = continuation_mask(
        model,
        is_token=torch.cat([mask.bool(), segment >= 0], dim=1),
        segment=segment,
        position=torch.cat([torch.arange(NUM_CONTEXT).expand(2, -1), NUM_CONTEXT + offset], dim=1),
    )
    at = shaped(model, mask.sum(dim=1, keepdim=True) + offset)
    new = torch.cat(news, dim=1)
    found = hidden_states(model, new, written, position_ids=at, past_key_values=cache, use_cache=True)
    return found.split([new.shape[1] for new in news], dim=1)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_each_continuation_is_as_if_it_were_alone(family):
    model = make_model(family)
    assert can_continue(model)
    ids = torch.randint(3, 60, (2, NUM_CONTEXT))
    mask = torch.ones_like(ids)
    mask[1, :PADDING] = 0
    news = [torch.randint(3, 60, (2, length)) for length in LENGTHS]
    found = side_by_side(model, ids, mask, news)
    for number, new in enumerate(news):
        whole, whole_mask = torch.cat([ids, new], dim=1), torch.cat([mask, torch.ones_like(new)], dim=1)
        at = shaped(model, positions_of(whole_mask))
        alone = hidden_states(model, whole, whole_mask, position_ids=at, use_cache=False)[:, NUM_CONTEXT:]
        assert (found[number] - alone).abs().max() < 1e-4, (family, number)
    other = side_by_side(model, ids, mask, [news[0], news[1], (news[2] + 1) % 50 + 3])
    assert torch.equal(found[0], other[0])  # blind to a neighbour, to the last bit
    assert (found[2] - other[2]).abs().max() > 1e-3  # twin


def test_continuations_that_see_each_other_are_caught():
    """Twin: as one segment they would not pass."""
    model = make_model("qwen2")
    ids, mask = torch.randint(3, 60, (2, NUM_CONTEXT)), torch.ones(2, NUM_CONTEXT, dtype=torch.long)
    news = [torch.randint(3, 60, (2, length)) for length in LENGTHS]
    apart = side_by_side(model, ids, mask, news)[2]
    (together,) = side_by_side(model, ids, mask, [torch.cat(news, dim=1)])
    assert (together[:, -LENGTHS[2] :] - apart).abs().max() > 1e-3


def test_the_context_itself_is_read_as_without_the_cache():
    model = make_model("qwen2")
    ids = torch.randint(3, 60, (2, NUM_CONTEXT))
    cache = PrefixCache(model.config, capacity_tokens=40)
    ours = hidden_states(model, ids, torch.ones_like(ids), past_key_values=cache, use_cache=True)
    library = DynamicCache(config=model.config)
    assert torch.equal(ours, hidden_states(model, ids, torch.ones_like(ids), past_key_values=library, use_cache=True))


@pytest.mark.parametrize("kind", ["linear_attention", "chunked_attention"])
def test_layers_that_cannot_stand_side_by_side_are_told(kind):
    model = make_model("qwen2")
    assert can_continue(model)
    model.config.layer_types = [kind, "full_attention", "full_attention"]
    assert not can_continue(model)
