"""Decoders that hybrid attention cannot restrict say so, with what is missing."""

from __future__ import annotations

import pytest
import torch

from rampipe.attention.hybrid import check_mask, hybrid_attention
from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.errors import ModelError
from tests.unit.attention.unlike_layers import SHARED_KEYS, UNLIKE_KV_HEADS, build_gemma4, some_tokens

PLAN = HybridPlan(full_heads=frozenset(), sink_tokens=0, window_tokens=4, keep_text=False)


@pytest.mark.parametrize(
    ("options", "reason"),
    [(SHARED_KEYS, "use keys of others"), (UNLIKE_KV_HEADS, "differ in their number of kv_heads")],
)
def test_layers_that_are_not_alike(options, reason):
    with pytest.raises(ModelError, match=reason), hybrid_attention(build_gemma4(**options), PLAN, text_keys=None):
        pass


def test_layers_of_other_widths_are_restricted():
    """Twin: heads of full layers are wider here, and nothing is refused."""
    model = build_gemma4()
    with torch.no_grad(), hybrid_attention(model, PLAN, text_keys=None):
        restricted = model(**some_tokens(), use_cache=False).logits
    assert not torch.equal(restricted, model(**some_tokens(), use_cache=False).logits)


def test_masks_that_show_what_is_behind_a_row():
    causal = torch.ones(2, 1, 6, 6, dtype=torch.bool).tril()
    both_ways = causal.clone()
    both_ways[1, 0, 2, 3] = True
    check_mask(causal, num_queries=6)
    check_mask(causal[:, :, 3:], num_queries=3)
    check_mask(torch.where(causal, 0.0, torch.finfo(torch.float32).min), num_queries=6)
    check_mask(None, num_queries=6)
    with pytest.raises(ModelError, match="rows see keys behind them"):
        check_mask(both_ways, num_queries=6)
    with pytest.raises(ModelError, match="rows see keys behind them"):
        check_mask(both_ways[:, :, 2:], num_queries=4)
