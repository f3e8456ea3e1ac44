from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn

from rampipe.attention.mask import Silence, silence_heads
from rampipe.attention.projections import attention_modules, attention_of, count_heads, output_projection
from rampipe.errors import ConfigError, ModelError
from rampipe.types import HeadId
from tests.unit.attention.silencing import logits
from tests.unit.attention.tiny_models import FAMILIES, SMALL, build


def qwen3_5_hybrid():
    """Every layer but the last is linear; the last gates the heads' outputs before they are projected."""
    torch.manual_seed(0)
    config = hf.Qwen3_5TextConfig(
        **SMALL,
        head_dim=16,
        layer_types=["linear_attention", "linear_attention", "full_attention"],
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    )
    return hf.Qwen3_5ForCausalLM(config).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_decoder_layer_is_found_and_cut_by_its_own_width(family):
    model = build(family, "eager")
    modules = attention_modules(model)
    assert modules == {layer: block.self_attn for layer, block in enumerate(model.get_decoder().layers)}
    for module in modules.values():
        projection, head_dim = output_projection(module)
        assert projection is module.o_proj
        assert count_heads(module) == 4
        assert head_dim == (24 if family == "qwen3_wide_heads" else 8)


def test_a_gate_before_the_projection_and_layers_without_softmax():
    model = qwen3_5_hybrid()
    modules = attention_modules(model)
    assert list(modules) == [2]
    inputs = {"input_ids": torch.arange(3, 15)[None]}
    seen = []
    with torch.no_grad(), silence_heads(model, Silence(frozenset({HeadId(2, 1)}))):
        modules[2].o_proj.register_forward_pre_hook(
            lambda _, arguments: seen.append(arguments[0].unflatten(-1, (4, -1)))
        )
        model.generate(**inputs, max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert [len(part[0]) for part in seen] == [12, 1, 1]
    assert all((part[:, :, 1] == 0).all() and (part[:, :, [0, 2, 3]] != 0).any(dim=-1).all() for part in seen)
    with pytest.raises(ConfigError, match=r"softmax attention in layers \[2\] only"):
        logits(model, inputs, Silence(frozenset({HeadId(0, 1)})))


def test_a_projection_that_is_not_found_is_named():
    model = build("qwen2")
    attention = model.get_decoder().layers[1].self_attn
    attention.mixer = attention.o_proj
    assert output_projection(attention)[0] is attention.mixer
    del attention.o_proj
    with pytest.raises(ModelError, match="Qwen2Attention has none of o_proj, out_proj"):
        output_projection(attention)
    with pytest.raises(ModelError, match="Qwen2Attention has none of"), silence_heads(model, one_head()):
        pass
    with silence_heads(model, one_head(mode="uniform")):  # needs no projection
        pass


def one_head(**fields):
    return Silence(frozenset({HeadId(1, 1)}), **fields)


def test_heads_that_do_not_divide_the_projection_are_refused():
    attention = build("qwen2").get_decoder().layers[1].self_attn
    attention.o_proj = nn.Linear(33, 32)
    with pytest.raises(ModelError, match="33 inputs for 4 heads"):
        output_projection(attention)


def test_attention_that_does_not_use_the_registry_or_shares_an_index_is_refused():
    model = build("qwen2")
    layers = model.get_decoder().layers
    layers[2].self_attn.layer_idx = 1
    with pytest.raises(ModelError, match="layer 1 has two attention modules"):
        attention_modules(model)
    layers[2].self_attn = nn.Identity()
    modules = attention_modules(model)
    assert sorted(modules) == [0, 1]
    with pytest.raises(ModelError, match="Qwen2ForCausalLM layer 2: no attention module"):
        attention_of(model, modules, 2)


def test_a_module_that_does_not_say_its_number_of_heads_is_refused():
    with pytest.raises(ModelError, match="Identity: neither it nor its config"):
        count_heads(nn.Identity())
