from __future__ import annotations

import pytest
import torch
from torch import nn

from rampipe.attention.call import REFUSED, read_call
from rampipe.attention.interface import own_eager_function
from rampipe.errors import ModelError
from tests.unit.attention.tiny_models import build


class Layer(nn.Module):
    layer_idx = 4


def read(implementation="sdpa", *, num_keys=6, mask=None, module=None, **arguments):
    query, key = torch.zeros(1, 2, 6, 16), torch.zeros(1, 2, num_keys, 16)
    return read_call(module or Layer(), implementation, query=query, key=key, mask=mask, arguments=arguments)


@pytest.mark.parametrize("name", REFUSED)
def test_what_changes_attention_is_refused_by_name(name):
    with pytest.raises(ModelError, match=f"layer Layer 4: attention argument '{name}'"):
        read(**{name: torch.zeros(1)})
    assert read(**{name: None}).mask is None
    assert read(position_ids=torch.zeros(1), use_cache=False, output_attentions=True).mask is None


@pytest.mark.parametrize("name", ["softcap", "s_aux"])
def test_what_sdpa_ignores_is_refused_under_sdpa_only(name):
    value = torch.full((2,), 3.0) if name == "s_aux" else 3
    with pytest.raises(ModelError, match=f"'{name}' under 'sdpa'"):
        read("sdpa", **{name: value})
    call = read("eager", **{name: value})
    assert (call.sinks if name == "s_aux" else call.softcap) is not None


def test_a_mask_that_is_no_tensor_is_refused():
    with pytest.raises(ModelError, match="mask is a list"):
        read(mask=[1])


def test_keys_beyond_the_queries_need_a_mask_under_sdpa():
    with pytest.raises(ModelError, match="6 queries over 9 keys"):
        read(num_keys=9)
    assert read("flash_attention_2", num_keys=9).causal
    assert read(num_keys=9, mask=torch.ones(1, 1, 6, 9, dtype=torch.bool)).mask is not None


def test_causality_is_the_kernels():
    bidirectional = Layer()
    bidirectional.is_causal = False
    assert read().causal
    assert not read(module=bidirectional).causal
    assert not read(is_causal=False).causal
    assert not read("eager").causal


def test_scaling_defaults_to_the_head_dimension():
    assert read().scaling == 0.25
    assert read(scaling=3.0).scaling == 3.0


def test_each_file_has_its_own_eager_function():
    model = build("gemma2_softcap", "eager")
    attention = model.get_decoder().layers[0].self_attn
    module = __import__(type(attention).__module__, fromlist=["x"])
    assert own_eager_function(attention) is module.eager_attention_forward
    with pytest.raises(ModelError, match=r"Linear\.forward names 0 functions"):
        own_eager_function(nn.Linear(1, 1))
