"""Knockout and uniform against oracles that change the mask or the query before the kernel."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention import restriction as restriction_module
from rampipe.attention.call import AttentionCall
from rampipe.attention.interface import own_eager_function
from rampipe.attention.mask import silence_heads
from rampipe.attention.restriction import Restriction, restricted_shares
from rampipe.types import HeadId
from tests.unit.attention.silencing import CONTEXT_STOP, HEADS, MODES, NUM_TOKENS, make_case
from tests.unit.attention.tiny_models import WITHOUT_SDPA

FAMILIES = (
    "qwen2",
    "qwen3_wide_heads",
    "mistral_sliding",
    "gemma2_softcap",
    "gemma3_mixed",
    "gpt_oss_sinks",
    "qwen2_vl",
)
CASES = [
    (family, implementation)
    for family in FAMILIES
    for implementation in ("sdpa", "eager")
    if implementation == "eager" or family not in WITHOUT_SDPA
]
LAST_ROWS = 3
FIRST = {"all": 0, "after_context": CONTEXT_STOP, "decode": NUM_TOKENS - LAST_ROWS}


@contextmanager
def before_the_kernel(change, implementation="eager"):
    """`change(module, query, mask)` gives what the kernel gets instead."""
    prior = ALL_ATTENTION_FUNCTIONS.get(implementation)

    def override(module, query, key, value, attention_mask=None, **arguments):
        query, attention_mask = change(module, query, attention_mask)
        attend = prior or own_eager_function(module)
        return attend(module, query, key, value, attention_mask, **arguments)

    ALL_ATTENTION_FUNCTIONS[implementation] = override
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS[implementation]


def hide_evidence(evidence, first):
    """A mask of its own for every head."""

    def change(module, query, mask):
        heads = [head.head for head in HEADS if head.layer == getattr(module, "layer_idx", None)]
        if heads:
            mask = mask.expand(-1, query.shape[1], -1, -1).clone()
        for head in heads:
            mask[:, head, first:].masked_fill_(evidence[:, None, :], torch.finfo(mask.dtype).min)
        return query, mask

    return change


def zero_query(module, query, mask):
    """What Retrieval_Head and SparseMM do before the kernel."""
    query = query.clone()
    query[:, [head.head for head in HEADS if head.layer == getattr(module, "layer_idx", None)]] = 0
    return query, mask


def on_tokens(case, logits):
    return logits[case.inputs["attention_mask"].bool()]


@pytest.mark.parametrize("positions", FIRST)
@pytest.mark.parametrize(("family", "implementation"), CASES)
def test_knockout_is_a_mask_of_its_own_for_every_head(family, implementation, positions):
    case, eager = make_case(family, implementation), make_case(family, "eager")
    found = case.logits(case.silence(HEADS, "evidence_knockout", positions, prompt_stop=[FIRST["decode"]] * 2))
    with before_the_kernel(hide_evidence(case.evidence, FIRST[positions])):
        expected = eager.logits()
    torch.testing.assert_close(on_tokens(case, found), on_tokens(case, expected), atol=1e-5, rtol=0)
    before = FIRST[positions] - 1 if positions != "all" else 12
    assert torch.equal(found[0, :before], case.logits()[0, :before])
    moved = case.evidence.roll(-1, dims=1)
    with before_the_kernel(hide_evidence(moved, FIRST[positions])):
        assert float((on_tokens(case, found) - on_tokens(case, eager.logits())).abs().max()) > 1e-3


@pytest.mark.parametrize(("family", "implementation"), CASES)
def test_uniform_is_what_a_query_of_zeros_gives_and_no_removal(family, implementation):
    case = make_case(family, implementation)
    found = case.logits(case.silence(mode="uniform"))
    with before_the_kernel(zero_query, implementation):
        expected = case.logits()
    torch.testing.assert_close(on_tokens(case, found), on_tokens(case, expected), atol=1e-5, rtol=0)
    assert float((on_tokens(case, found) - on_tokens(case, case.logits(case.silence()))).abs().max()) > 1e-3


@pytest.mark.parametrize(("family", "implementation"), CASES)
def test_a_knockout_without_evidence_changes_no_bit(family, implementation):
    case = make_case(family, implementation)
    plain = case.logits()
    nothing = torch.zeros_like(case.evidence)
    assert torch.equal(case.logits(case.silence(mode="evidence_knockout", evidence=nothing)), plain)
    one_row = nothing.clone()
    one_row[0, 13:16] = True
    found = case.logits(case.silence(mode="evidence_knockout", evidence=one_row))
    assert torch.equal(found[1], plain[1])
    assert not torch.equal(found[0], plain[0])


@pytest.mark.parametrize("mode", ["evidence_knockout", "uniform"])
def test_rows_taken_in_chunks_are_rows_taken_at_once(mode, monkeypatch):
    case = make_case()
    whole = case.logits(case.silence(mode=mode))
    monkeypatch.setattr(restriction_module, "MAX_LOGITS", 5 * NUM_TOKENS)
    torch.testing.assert_close(case.logits(case.silence(mode=mode)), whole, atol=1e-6, rtol=0)
    calls, correct = [], restriction_module.restricted_shares

    def counted(call, restriction, position):
        calls.append(len(position))
        return correct(call, restriction, position)

    monkeypatch.setattr(restriction_module, "restricted_shares", counted)
    case.logits(case.silence(mode=mode))
    assert max(calls) <= 5
    assert len(calls) > 10


def a_call(**changes):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 6, 8, generator=generator)
    return replace(AttentionCall(query, torch.randn(1, 2, 6, 8, generator=generator), None, 0.5), **changes)


@pytest.mark.parametrize("softcap", [None, 1.5])
def test_shares_are_renormalised_over_the_keys_that_are_left(softcap):
    call, heads, position = a_call(softcap=softcap), torch.tensor([1, 3]), torch.arange(6)
    shares = restricted_shares(call, Restriction(0, 0, heads, torch.tensor([2, 3])), position)
    dense = restricted_shares(call, Restriction(0, 0, heads, torch.tensor([], dtype=torch.long)), position)
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(2, 6))
    assert (shares[..., [2, 3]] == 0).all()
    left = dense.index_fill(-1, torch.tensor([2, 3]), 0)
    torch.testing.assert_close(shares, left / left.sum(dim=-1, keepdim=True))
    assert float((shares - left).abs().max()) > 0.05  # twin: hidden without renormalising


def test_a_row_that_keeps_no_key_gives_nothing_and_a_learned_sink_keeps_its_share():
    heads, position, first_two = torch.tensor([0]), torch.arange(6), torch.tensor([0, 1])
    shares = restricted_shares(a_call(), Restriction(0, 0, heads, first_two), position)
    assert (shares[0, :2] == 0).all()
    torch.testing.assert_close(shares[0, 2:].sum(dim=-1), torch.ones(4))
    sinks = torch.zeros(4)
    uniform = restricted_shares(a_call(sinks=sinks), Restriction(0, 0, heads, None), position)
    torch.testing.assert_close(uniform[0].sum(dim=-1), torch.arange(1, 7) / torch.arange(2, 8))


@pytest.mark.parametrize("cache_type", [DynamicCache, StaticCache])
@pytest.mark.parametrize("positions", FIRST)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["qwen2", "mistral_sliding"])
def test_steps_over_a_cache_are_one_forward(family, mode, positions, cache_type):
    # SDPA gets no mask with a static cache, which knockout refuses; eager always gets one.
    case = make_case(family, "sdpa" if cache_type is DynamicCache else "eager", padding="none")
    silence = case.silence(HEADS, mode, positions, prompt_stop=[FIRST["decode"]] * 2)
    whole = case.logits(silence)
    ids, mask, parts = case.inputs["input_ids"], case.inputs["attention_mask"], []
    cache = cache_type(config=case.model.config, **({"max_cache_len": 32} if cache_type is StaticCache else {}))
    with torch.no_grad(), silence_heads(case.model, silence):
        for start, stop in ((0, 14), (14, 21), (21, 22), (22, 23), (23, 24)):
            output = case.model(ids[:, start:stop], attention_mask=mask[:, :stop], past_key_values=cache)
            parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)
    assert float((whole - case.logits()).abs().max()) > 1e-3


def test_weights_of_rewritten_heads_are_not_those_of_the_kernel():
    case = make_case(implementation="eager")
    silence = case.silence(frozenset({HeadId(1, 2)}), "uniform", "after_context")
    with torch.no_grad(), silence_heads(case.model, silence):
        attentions = case.model(**case.inputs, output_attentions=True).attentions
    missing = torch.stack([weights.isnan().all(dim=-1) for weights in attentions])
    expected = torch.zeros_like(missing)
    expected[1, :, 2, CONTEXT_STOP:] = True
    assert torch.equal(missing, expected)
