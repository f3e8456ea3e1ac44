"""A decoder on a flash kernel is captured as it is, and is on sdpa where it needs a mask that no flash kernel takes."""

from __future__ import annotations

import pytest
import torch

from rampipe.attention.capture import capture_attention
from rampipe.attention.decode_dense import packed_decode
from rampipe.attention.hybrid import hybrid_attention
from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.attention.interface import implementations, masked_kernel
from rampipe.attention.prefix_cache import can_continue
from tests.unit.attention.flash_stand_in import NAME, on_flash
from tests.unit.attention.reference import eager_references, largest_difference
from tests.unit.attention.tiny_models import build, last_rows, prompt

PLAN = HybridPlan(frozenset(), sink_tokens=1, window_tokens=6, keep_text=False)


@pytest.mark.parametrize("family", ["qwen2", "mistral_sliding", "qwen2_vl"])
@pytest.mark.parametrize("backend", ["dense", "deferred", "lse"])
@pytest.mark.parametrize("padding", ["none", "left"])
def test_statistics_are_those_of_eager_attention(family, backend, padding):
    model = build(family)
    inputs, regions, real = prompt(family, padding=padding)
    rows = last_rows(real)
    expected = eager_references(model, inputs, rows, regions)
    with (
        on_flash(model) as ran,
        torch.no_grad(),
        capture_attention(model, rows=rows, regions=regions, backend=backend) as recorder,
    ):
        model(**inputs, use_cache=False)
    assert ran == [0, 1, 2]
    for layer, reference in zip(recorder.layers.values(), expected, strict=True):
        if backend == "lse":
            assert float((layer.mass - reference.mass).abs().max()) < 1e-5
        else:
            assert largest_difference(layer, reference) < 1e-5


@pytest.mark.parametrize(
    "restricted", [lambda model: hybrid_attention(model, PLAN, text_keys=None), packed_decode], ids=["hybrid", "packed"]
)
def test_sdpa_stands_in_where_a_mask_is_needed(restricted):
    model = build("qwen2")
    inputs, _, _ = prompt("qwen2", padding="left")
    with torch.no_grad(), restricted(model):
        expected = model(**inputs, use_cache=False).logits
    with on_flash(model) as ran, torch.no_grad(), restricted(model):
        assert implementations(model.get_decoder()) == {"sdpa"}
        found = model(**inputs, use_cache=False).logits
    assert ran == []
    assert torch.equal(found, expected)


def test_contexts_can_be_shared_and_the_kernel_is_back():
    model = build("qwen2")
    with on_flash(model):
        assert can_continue(model)
        assert implementations(model.get_decoder()) == {NAME}


def test_the_kernel_is_back_when_the_body_raises():
    model = build("qwen2")
    with on_flash(model):
        with pytest.raises(KeyError), masked_kernel(model):
            raise KeyError
        assert implementations(model.get_decoder()) == {NAME}


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_other_implementations_stay(implementation):
    model = build("qwen2", implementation)
    with masked_kernel(model):
        assert implementations(model.get_decoder()) == {implementation}
