from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from rampipe.attention.backends import BACKENDS, Deferred, Dense, choose_backend, deferred
from rampipe.attention.backends.blocks import BLOCK_LOGITS
from rampipe.attention.capture import QueryRows, capture_attention
from tests.unit.attention.tiny_models import build, last_rows, prompt


def capture(model, inputs, regions, rows, backend, **options):
    with torch.no_grad(), capture_attention(model, rows=rows, regions=regions, backend=backend) as recorder:
        model(**inputs, **options)
        during = dict(recorder.layers)
    return recorder, during


@pytest.mark.parametrize("family", ["qwen2", "gemma3_mixed"])
def test_nothing_is_computed_before_the_forward_is_over(family):
    model = build(family)
    inputs, regions, real = prompt(family, padding="left")
    rows = last_rows(real)
    late, during = capture(model, inputs, regions, rows, "deferred")
    assert during == {}
    at_once, during = capture(model, inputs, regions, rows, "dense")
    assert sorted(during) == sorted(late.layers) == [0, 1, 2]  # twin: the other one has them by then
    for index, layer in at_once.layers.items():
        torch.testing.assert_close(late.layers[index].mass, layer.mass, atol=1e-6, rtol=0)
        torch.testing.assert_close(late.layers[index].entropy_nats, layer.entropy_nats, atol=1e-5, rtol=0)


def test_layers_are_computed_together(monkeypatch):
    """Three samples with layouts of their own and two kinds of layer: two calls for nine (sample, layer)."""
    model = build("gemma3_mixed")
    inputs, regions, real = prompt("gemma3_mixed")
    sizes, correct = [], deferred.all_statistics

    def counted(samples, scratch):
        sizes.append([len(reads) for reads in samples])
        return correct(samples, scratch)

    monkeypatch.setattr(deferred, "all_statistics", counted)
    capture(model, inputs, regions, last_rows(real), "deferred")
    assert sorted(sizes) == [[1, 1, 1], [2, 2, 2]]
    sizes.clear()
    monkeypatch.setitem(BLOCK_LOGITS, "cpu", 1)  # twin: no two layers fit a block
    capture(model, inputs, regions, last_rows(real), "deferred")
    assert sizes == [[1, 1, 1]] * 3


def test_a_cache_that_goes_on_does_not_change_what_was_kept():
    model = build("qwen2")
    inputs, regions, real = prompt("qwen2", batch=1)
    rows, cache = last_rows(real, 4), DynamicCache(config=model.config)
    expected, _ = capture(model, inputs, regions, rows, "dense")
    with torch.no_grad():
        model(inputs["input_ids"][:, :30], past_key_values=cache)
    rows = QueryRows(rows.batch, rows.position - 30)
    suffix = {"input_ids": inputs["input_ids"][:, 30:], "attention_mask": inputs["attention_mask"]}
    late, _ = capture(model, suffix, regions, rows, "deferred", past_key_values=cache)
    torch.testing.assert_close(late.layers[2].mass, expected.layers[2].mass, atol=1e-5, rtol=0)


def test_auto_defers_short_prompts_alone():
    assert choose_backend("auto", num_keys=100) is Deferred
    assert choose_backend("auto", num_keys=100_000) is Dense
    for name, backend in BACKENDS.items():
        assert {choose_backend(name, num_keys=num_keys) for num_keys in (100, 100_000)} == {backend}
