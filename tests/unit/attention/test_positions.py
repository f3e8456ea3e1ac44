"""Positions of the queries of a layer, where a model runs its last layers on the last tokens alone."""

from __future__ import annotations

import pytest
import torch

from rampipe.attention.mask import silence_heads
from rampipe.attention.silence import Silence
from rampipe.types import HeadId
from tests.unit.attention.unlike_layers import SHARED_KEYS, build_gemma4, some_tokens

HEADS = frozenset({HeadId(2, 1), HeadId(3, 0), HeadId(3, 2)})
"""Of layers without keys of their own."""
NUM_LOGITS = 3


@torch.no_grad()
def logits(model, *, kept, first=None):
    """Of the last tokens. kept: `logits_to_keep`. first: heads are silenced from this position on."""
    inputs = some_tokens()
    if first is None:
        return model(**inputs, use_cache=False, logits_to_keep=kept).logits[:, -NUM_LOGITS:]
    silence = Silence(HEADS, positions="after_context", context_stop=[first, first])
    with silence_heads(model, silence):
        return model(**inputs, use_cache=False, logits_to_keep=kept).logits[:, -NUM_LOGITS:]


@pytest.mark.parametrize("first", [0, 8, 11, 12, 13])
def test_silence_is_the_same_when_layers_run_on_the_last_tokens_alone(first):
    model = build_gemma4(**SHARED_KEYS)
    seen = []
    model.model.layers[3].self_attn.register_forward_pre_hook(
        lambda _module, _arguments, options: seen.append(options["hidden_states"].shape[1]), with_kwargs=True
    )
    few, whole = logits(model, kept=NUM_LOGITS, first=first), logits(model, kept=0, first=first)
    assert seen == [NUM_LOGITS, 14]
    assert torch.allclose(few, whole, atol=1e-5)
    changed = (few - logits(model, kept=NUM_LOGITS)).abs().amax(dim=(0, 2)) > 1e-3
    assert changed.tolist() == [position >= first for position in (11, 12, 13)]
