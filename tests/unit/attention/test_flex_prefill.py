"""FlexAttention under block masks, uncompiled on a CPU: what CUDA would compute, by the kernel's reference path."""

from __future__ import annotations

import pytest
import torch

from rampipe.attention import flex_prefill as module
from rampipe.attention.flex_prefill import FlexPrefill, block_mask, flex_prefill, real_keys
from rampipe.attention.hybrid import HybridAttention, hybrid_attention
from rampipe.attention.kept_keys import KeptKeys
from rampipe.attention.windowed import WindowRule
from tests.unit.attention.hybrid_oracle import attend, oracle_logits
from tests.unit.attention.test_hybrid import plan, run, some_text
from tests.unit.attention.tiny_models import build, prompt

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile.*"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
]


def flex_attention(*tensors, **arguments):
    from torch.nn.attention.flex_attention import flex_attention as reference

    return reference(*tensors, **arguments)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 8)


def rule(positions, *, first=0, window=6):
    return WindowRule(window, KeptKeys(first, tuple(positions), torch.tensor(positions, dtype=torch.long)))


def seen_by_definition(rules, real):
    num_tokens = real.shape[1]
    seen = torch.zeros(len(rules), 1, num_tokens, num_tokens, dtype=torch.bool)
    for batch, item in enumerate(rules):
        for q in range(num_tokens):
            for j in range(q + 1):
                seen[batch, 0, q, j] = real[batch, j] and (j > q - item.window or j in item.kept.positions)
    return seen


CASES = [(40, 6), (37, 17), (64, 1), (9, 3), (61, 24), (16, 100)]


@pytest.mark.parametrize(("num_tokens", "window"), CASES)
@pytest.mark.parametrize("num_padding", [0, 5])
def test_blocks_and_pairs_are_the_definition(num_tokens, window, num_padding):
    real = torch.ones(2, num_tokens, dtype=torch.bool)
    real[1, :num_padding] = False
    rules = [rule(range(10), window=window), rule([num_padding, num_padding + 2, 99], first=num_padding, window=window)]
    made, seen = block_mask(rules, real), seen_by_definition(rules, real)
    position = torch.arange(num_tokens)
    pairs = made.mask_mod(torch.arange(2)[:, None, None], torch.tensor(0), position[:, None], position)
    assert torch.equal(pairs, seen[:, 0])
    room = -num_tokens % module.BLOCK
    blocks = torch.nn.functional.pad(seen, (0, room, 0, room)).unflatten(3, (-1, 8)).unflatten(2, (-1, 8))
    assert torch.equal(made.to_dense().bool(), blocks.any(dim=5).any(dim=3))
    whole = torch.zeros_like(made.to_dense()).bool()
    for batch in range(2):
        for row in range(whole.shape[2]):
            whole[
                batch, 0, row, made.full_kv_indices[batch, 0, row, : made.full_kv_num_blocks[batch, 0, row]].long()
            ] = True
    rows_that_exist = torch.nn.functional.pad(torch.ones(num_tokens), (0, room)).view(-1, 8)[:, :, None] == 0
    assert not (whole & ~(blocks | rows_that_exist[:, :, None]).all(dim=5).all(dim=3)).any()


def test_the_kernel_under_a_block_mask_is_attention_under_the_explicit_mask():
    torch.manual_seed(0)
    query, (key, value) = 2 * torch.randn(2, 4, 37, 16), torch.randn(2, 2, 2, 37, 16)
    real = torch.ones(2, 37, dtype=torch.bool)
    real[1, :5] = False
    mask = real[:, None, None] & torch.ones(37, 37, dtype=torch.bool).tril()
    rules = [rule([0, 1, 20]), rule([5, 6, 9], first=5)]
    for given, keys in ((mask, real), (None, torch.ones_like(real))):
        found = FlexPrefill(flex_attention).attend(query, key, value, rules=rules, scaling=0.25, mask=given)
        expected = attend(query, key, value, seen_by_definition(rules, keys), 0.25)
        assert (found - expected)[keys].abs().max() < 2e-6
        assert (found - attend(query, key, value, mask, 0.25))[real].abs().max() > 0.1


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("full", [((0, 0), (0, 1), (0, 2), (1, 2))])
def test_a_model_whose_restricted_heads_go_through_it(padding, full):
    from rampipe.types import HeadId

    model = build("qwen2")
    inputs, _, real = prompt("qwen2", padding=padding)
    text, chosen = some_text(real), plan([HeadId(*head) for head in full], text=True)
    calls = []

    def counted(*tensors, **arguments):
        calls.append(arguments["block_mask"])
        return flex_attention(*tensors, **arguments)

    with hybrid_attention(model, chosen, text_keys=text) as hybrid:
        assert isinstance(hybrid, HybridAttention)
        assert hybrid.flex is None
        hybrid.flex = FlexPrefill(counted)
        logits = run(model, inputs)
    assert len(calls) == 3
    assert len({id(made) for made in calls}) == 1  # one block mask for all layers
    expected = oracle_logits(model, inputs, chosen, text=text)
    assert (logits - expected)[real].abs().max() < 1e-5
    assert (run(model, inputs) - expected)[real].abs().max() > 1e-2


def test_another_mask_goes_to_the_loop_with_a_reason():
    query = torch.randn(1, 2, 16, 8)
    causal = torch.ones(1, 1, 16, 16, dtype=torch.bool).tril()
    flex, arguments = FlexPrefill(flex_attention), {"rules": [rule([0])], "scaling": 0.3}
    assert flex.attend(query, query, query, mask=causal, **arguments) is not None
    two_documents = causal.clone()
    two_documents[:, :, 8:15, :8] = False
    with pytest.warns(UserWarning, match="more than causality and padding; the block-sliced loop takes over"):
        assert flex.attend(query, query, query, mask=two_documents, **arguments) is None
    assert real_keys(causal.expand(1, 2, -1, -1), num_batch=1, num_tokens=16, device=query.device) is None


def test_it_is_for_cuda_with_triton_alone(monkeypatch):
    assert flex_prefill(torch.device("cpu")) is None
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="Triton is not installed"):
        assert flex_prefill(torch.device("cuda")) is None
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert isinstance(flex_prefill(torch.device("cuda")), FlexPrefill)
