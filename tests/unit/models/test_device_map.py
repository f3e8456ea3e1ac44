from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

from rampipe.config import ModelConfig
from rampipe.errors import ModelError
from rampipe.models.device_map import free_bytes, place_weights, plan_device_map

WIDE = {
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 12,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
}
GB = 10**9


def make_config(*, tied: bool = False) -> Qwen2_5_VLConfig:
    """Widths of Qwen2.5-VL 72B, with 12 of its 80 layers."""
    text = {**WIDE, "tie_word_embeddings": tied}
    return Qwen2_5_VLConfig(
        text_config=text, vision_config={"depth": 2, "out_hidden_size": 8192}, tie_word_embeddings=tied
    )


def build(*, tied: bool = False):
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(make_config(tied=tied), dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def model():
    return build()


def bytes_on(model, device_map, gpu) -> int:
    """Of weights and buffers, found anew by name."""
    tensors = {id(tensor): (name, tensor) for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    of_gpu = [part for part, index in device_map.items() if index == gpu]
    return sum(
        tensor.numel() * tensor.element_size()
        for name, tensor in tensors.values()
        if any(name == part or name.startswith(part + ".") for part in of_gpu)
    )


def layers_of(device_map) -> list[int]:
    return [gpu for name, gpu in device_map.items() if ".layers." in name]


@pytest.mark.parametrize("num_gpus", [2, 3, 4])
def test_every_weight_has_one_place_and_no_gpu_much_more_than_its_share(model, num_gpus):
    device_map = plan_device_map(model, memory_bytes=[80 * GB] * num_gpus)
    used = [bytes_on(model, device_map, gpu) for gpu in range(num_gpus)]
    whole = bytes_on(model, dict.fromkeys(device_map, 0), 0)
    layer = bytes_on(model, {"model.language_model.layers.0": 0}, 0)
    assert sum(used) == whole == sum(p.numel() * p.element_size() for p in [*model.parameters(), *model.buffers()])
    assert max(used) < whole / num_gpus + layer
    assert all(after - before in (0, 1) for before, after in pairwise(layers_of(device_map)))


def test_the_ends_of_the_model_are_at_the_ends(model):
    device_map = plan_device_map(model, memory_bytes=[80 * GB] * 2)
    assert {name: gpu for name, gpu in device_map.items() if ".layers." not in name} == {
        "model.visual": 0,
        "model.language_model.embed_tokens": 0,
        "model.language_model.rotary_emb": 0,
        "model.language_model.norm": 1,
        "lm_head": 1,
    }


def test_a_tied_output_layer_stays_with_the_embeddings():
    tied = build(tied=True)
    device_map = plan_device_map(tied, memory_bytes=[80 * GB] * 2)
    assert (device_map["lm_head"], device_map["model.language_model.norm"]) == (0, 1)
    assert sum(bytes_on(tied, device_map, gpu) for gpu in range(2)) == bytes_on(tied, dict.fromkeys(device_map, 0), 0)


def test_a_gpu_with_less_memory_gets_fewer_layers(model):
    even, uneven = (plan_device_map(model, memory_bytes=[first * GB, 80 * GB]) for first in (80, 8))
    assert bytes_on(model, uneven, 0) <= 8 * GB < bytes_on(model, even, 0)
    assert layers_of(uneven).count(0) < layers_of(even).count(0)


def test_what_does_not_fit_is_refused_with_the_numbers(model):
    with pytest.raises(ModelError, match=r"need 27\.\d GB in torch.bfloat16, its 2 GPUs have 10 GB \+ 12 GB free"):
        plan_device_map(model, memory_bytes=[10 * GB, 12 * GB])
    with pytest.raises(ModelError, match="its 1 GPUs have 20 GB free"):
        place_weights(AutoModelForImageTextToText, make_config(), ModelConfig(path="x"), memory_bytes=[20 * GB])


def test_one_device_needs_no_map(tiny):
    arguments = (AutoModelForImageTextToText, tiny.model.config, ModelConfig(path="x"))
    assert place_weights(*arguments, memory_bytes=[GB]) is None
    assert place_weights(*arguments, memory_bytes=[]) is None
    assert len({*(place_weights(*arguments, memory_bytes=[GB, GB]) or {}).values()}) == 2


def test_more_gpus_than_there_are():
    num_seen = torch.cuda.device_count()
    with pytest.raises(ModelError, match=rf"on {num_seen + 1} GPUs: this process sees {num_seen}\."):
        free_bytes(num_seen + 1)
