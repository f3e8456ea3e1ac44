"""Rules of kernels that take no 4-D mask (flash): causal, window, 2-D padding, cached prefix."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rampipe.attention.call import AttentionCall
from rampipe.attention.visibility import HIDDEN, row_bias
from rampipe.errors import ModelError

NOTHING = AttentionCall(query=torch.zeros(2, 1, 6, 4), key=torch.zeros(2, 1, 6, 4), mask=None, scaling=1.0)


def visible(call, row, *, batch=0):
    """Keys that a row sees, asked for in another order than theirs."""
    keys = torch.arange(call.key.shape[2]).flip(0)
    bias = row_bias(call, batch, position=torch.tensor([row]), key=keys)
    assert set(bias.unique().tolist()) <= {0.0, HIDDEN_FLOAT32}
    return sorted(keys[bias[0, 0] == 0].tolist())


HIDDEN_FLOAT32 = torch.tensor(HIDDEN).item()


def test_causal_without_a_mask():
    assert visible(NOTHING, 3) == [0, 1, 2, 3]
    assert visible(replace(NOTHING, causal=False), 3) == [0, 1, 2, 3, 4, 5]


def test_the_last_query_sees_the_last_key_after_a_cached_prefix():
    cached = replace(NOTHING, query=torch.zeros(2, 1, 2, 4))
    assert visible(cached, 0) == [0, 1, 2, 3, 4]
    assert visible(cached, 1) == [0, 1, 2, 3, 4, 5]


def test_the_window_counts_the_query_itself():
    assert visible(replace(NOTHING, sliding_window=2), 3) == [2, 3]
    assert visible(replace(NOTHING, sliding_window=1), 3) == [3]


def test_padding_of_each_batch_element():
    padded = replace(NOTHING, mask=torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]))
    assert visible(padded, 3) == [2, 3]
    assert visible(padded, 3, batch=1) == [0, 1, 2, 3]
    assert visible(replace(padded, sliding_window=3), 4) == [2, 3, 4]
    # a sliding cache holds the last keys only; the mask names all of them
    assert visible(replace(padded, key=torch.zeros(2, 1, 5, 4), query=torch.zeros(2, 1, 1, 4)), 0) == [1, 2, 3, 4]


def test_a_full_mask_is_the_whole_truth():
    mask = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    mask[..., 3, 5] = True
    assert visible(replace(NOTHING, mask=mask, sliding_window=1), 3, batch=1) == [5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_additive_mask_hides_at_its_minimum_and_adds_above(dtype):
    mask = torch.full((2, 1, 6, 6), torch.finfo(dtype).min, dtype=dtype)
    mask[0, 0, 3, 1], mask[1, 0, 3, 2] = 0.0, -1.5
    assert visible(replace(NOTHING, mask=mask), 3) == [1]
    bias = row_bias(replace(NOTHING, mask=mask), 1, position=torch.tensor([3]), key=torch.arange(6))
    assert bias[0, 0].tolist() == [HIDDEN_FLOAT32] * 2 + [-1.5] + [HIDDEN_FLOAT32] * 3


def test_a_mask_of_another_kind_is_refused():
    with pytest.raises(ModelError, match=r"\(2, 6, 6\); allowed"):
        visible(replace(NOTHING, mask=torch.ones(2, 6, 6)), 3)
