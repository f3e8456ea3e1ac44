from __future__ import annotations

import pytest
import torch

from rampipe.attention import dense_heads as module
from rampipe.attention.dense_heads import dense_heads
from tests.unit.attention.hybrid_oracle import attend


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(module, "MIN_SPLIT_TOKENS", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.parametrize("num_tokens", [2, 9, 64, 65])
@pytest.mark.parametrize("heads", [(1,), (0, 1), (1, 2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_a_lone_head_cut_in_halves_is_causal_attention(two_threads, num_tokens, heads, batch):
    torch.manual_seed(0)
    query = 2 * torch.randn(batch, 4, num_tokens, 16)
    key, value = torch.randn(2, batch, 2, num_tokens, 16)
    causal = torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril()
    expected = attend(query, key, value, causal, 0.25)[:, :, list(heads)]
    output = dense_heads(query, key, value, heads=heads, scaling=0.25)
    assert (output - expected).abs().max() < 2e-6
    assert (
        output - attend(query, key, value, causal.new_ones(causal.shape), 0.25)[:, :, list(heads)]
    ).abs().max() > 0.1


@torch.no_grad()
def test_only_an_odd_number_of_heads_is_cut(two_threads, monkeypatch):
    cut = []
    monkeypatch.setattr(module, "_lone_head", lambda query, key, value, scaling: cut.append(len(query)) or query)
    query, key = torch.randn(1, 4, 8, 16), torch.randn(1, 2, 8, 16)
    dense_heads(query, key, key, heads=(0, 3), scaling=1.0)
    assert cut == []
    dense_heads(query, key, key, heads=(0, 1, 3), scaling=1.0)
    assert cut == [1]
