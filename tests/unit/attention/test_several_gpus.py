"""The stand-in for several GPUs notices what a real machine would refuse, and what accelerate's moves make right."""

from __future__ import annotations

import pytest
import torch

from rampipe.attention.capture import capture_attention
from tests.unit.attention.several_gpus import OtherDeviceError, place, several_gpus
from tests.unit.attention.tiny_models import build, last_rows, prompt

ON_TWO = {
    "model.embed_tokens": 0,
    "model.rotary_emb": 0,
    "model.layers.0": 0,
    "model.layers.1": 1,
    "model.layers.2": 1,
    "model.norm": 1,
    "lm_head": 1,
}


def test_tensors_of_two_gpus_do_not_meet():
    with several_gpus():
        first, second = torch.ones(2, 3, device="lazy:0"), torch.full((2, 3), 2.0, device="lazy:1")
        with pytest.raises(OtherDeviceError, match="aten::add"):
            first + second
        with pytest.raises(OtherDeviceError, match="aten::add"):
            first + torch.ones(2, 3)
        with pytest.raises(OtherDeviceError, match="aten::index_select"):
            first.index_select(0, torch.tensor([1], device="lazy:1"))
        assert (first.to(second.device) + second).tolist() == [[3.0] * 3] * 2
        assert first[torch.tensor([1])].device == torch.device("lazy:0")  # CPU indices, as torch allows
        assert float((first + torch.tensor(1.0)).sum()) == 12


def test_layers_on_two_gpus_give_the_same_statistics():
    inputs, regions, real = prompt("qwen2", padding="left")
    rows = last_rows(real)
    plain = _statistics(build("qwen2"), inputs, rows, regions)
    with several_gpus():
        model = place(build("qwen2"), ON_TWO)
        there = {name: tensor.to("lazy:0") for name, tensor in inputs.items()}
        spread = _statistics(model, there, rows, regions)
    assert [str(spread[layer].mass.device) for layer in spread] == ["lazy:0", "lazy:1", "lazy:1"]
    for layer, expected in plain.items():
        assert float((spread[layer].mass.held - expected.mass).abs().max()) < 1e-6


def test_without_moves_the_layers_cannot_meet():
    """Twin: it is accelerate that carries the states over."""
    inputs, _, _ = prompt("qwen2")
    with several_gpus(), torch.no_grad():
        model = place(build("qwen2"), ON_TWO)
        del model.model.layers[1]._hf_hook
        model.model.layers[1].forward = type(model.model.layers[1]).forward.__get__(model.model.layers[1])
        there = {name: tensor.to("lazy:0") for name, tensor in inputs.items()}
        with pytest.raises(OtherDeviceError):
            model(**there, use_cache=False)


def _statistics(model, inputs, rows, regions):
    with torch.no_grad(), capture_attention(model, rows=rows, regions=regions) as recorder:
        model(**inputs, use_cache=False)
    return recorder.layers
