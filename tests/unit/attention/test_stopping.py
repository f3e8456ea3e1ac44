"""A forward that ends early has measured what a whole one measures, and computes nothing after."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention.capture import capture_attention, check_recorded
from rampipe.attention.stopping import stop_after
from rampipe.errors import ConfigError, ModelError
from tests.unit.attention.tiny_models import build, last_rows, prompt


@pytest.fixture
def model():
    return build("gemma3_mixed")


@pytest.fixture
def ran(model):
    """Layers whose MLP has run."""
    seen = []
    for index, layer in enumerate(model.get_decoder().layers):
        layer.mlp.register_forward_pre_hook(lambda *_, index=index: seen.append(index))
    return seen


def capture(model, **options):
    inputs, regions, real = prompt("gemma3_mixed", padding="left")
    with (
        torch.inference_mode(),
        capture_attention(model, rows=last_rows(real), regions=regions, **options) as recorder,
    ):
        model(**inputs, use_cache=False)
    return recorder


@pytest.mark.parametrize("backend", ["dense", "lse", "deferred"])
def test_no_layer_after_the_last_one_asked_for(model, ran, backend):
    whole = capture(model, backend=backend)
    assert ran == [0, 1, 2]
    ran.clear()
    some = capture(model, backend=backend, layers=[1, 0], stop=True)
    assert ran == [0]
    assert sorted(some.layers) == [0, 1]
    for index, layer in some.layers.items():
        assert torch.equal(layer.mass, whole.layers[index].mass)
        assert torch.equal(layer.peak_evidence, whole.layers[index].peak_evidence)
    ran.clear()
    unstopped = capture(model, backend=backend, layers=[1])
    assert ran == [0, 1, 2]  # twin: asking for layers alone does not end a forward whose output may be wanted
    assert sorted(unstopped.layers) == [1]


def test_the_registry_is_as_before_and_an_error_is_not_swallowed(model):
    before = ALL_ATTENTION_FUNCTIONS["sdpa"]
    capture(model, layers=[0], stop=True)
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before
    _, regions, real = prompt("gemma3_mixed")
    with (
        pytest.raises(KeyError, match="planted"),
        capture_attention(model, rows=last_rows(real), regions=regions, layers=[0], stop=True),
    ):
        raise KeyError("planted")
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before


def test_what_is_asked_for_is_what_is_checked(model):
    recorder = capture(model, layers=[0, 2])
    check_recorded(recorder, model, layers=[0, 2])
    with pytest.raises(ModelError, match=r"recorded layers \[0, 2\]; expected \[0, 1, 2\]"):
        check_recorded(recorder, model)


@pytest.mark.parametrize("layers", [[3], [0, 7], []])
def test_layers_that_the_model_does_not_have_are_refused(model, layers):
    with pytest.raises(ConfigError, match=r"capture\.layers = .*softmax attention in layers 0-2"):
        capture(model, layers=layers)


def test_caches_up_to_the_layer_are_filled(model, ran):
    inputs, _, _ = prompt("gemma3_mixed")
    whole, part = (DynamicCache(config=model.config) for _ in range(2))
    with torch.no_grad():
        model(**inputs, use_cache=True, past_key_values=whole)
        ran.clear()
        with stop_after(model, 1):
            model(**inputs, use_cache=True, past_key_values=part)
            raise AssertionError("the body ends with the forward")
    assert ran == [0]
    for layer in (0, 1):
        assert torch.equal(part.layers[layer].keys, whole.layers[layer].keys)
        assert torch.equal(part.layers[layer].values, whole.layers[layer].values)
