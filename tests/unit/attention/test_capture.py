from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention.capture import QueryRows, Recorder, bad_rows, capture_attention, check_recorded, expected_layers
from rampipe.attention.interface import ObservedAttention
from rampipe.errors import ModelError, SampleError
from tests.unit.attention.tiny_models import build, last_rows, prompt


def run(model, inputs):
    with torch.no_grad():
        return model(**inputs, use_cache=False)


def capture(model, inputs, regions, rows):
    with capture_attention(model, rows=rows, regions=regions) as recorder:
        run(model, inputs)
    return recorder


@pytest.fixture(params=["sdpa", "eager"])
def implementation(request):
    return request.param


def entry(implementation):
    return ALL_ATTENTION_FUNCTIONS.get(implementation)


def test_the_same_module_is_unhooked_afterwards(implementation):
    model = build("qwen2", implementation)
    inputs, regions, real = prompt("qwen2")
    attention = model.get_decoder().layers[1].self_attn
    before, plain = entry(implementation), run(model, inputs).logits
    with capture_attention(model, rows=last_rows(real), regions=regions) as recorder:
        assert isinstance(entry(implementation), ObservedAttention)
        assert attention in entry(implementation).modules
        run(model, inputs)
    recorded = dict(recorder.layers)
    assert set(recorded) == {0, 1, 2}
    assert entry(implementation) is before
    recorder.layers.clear()
    assert torch.equal(run(model, inputs).logits, plain)
    assert model.get_decoder().layers[1].self_attn is attention
    assert recorder.layers == {}


def test_unhooked_when_the_body_raises(implementation):
    model = build("qwen2", implementation)
    inputs, regions, real = prompt("qwen2")
    before = entry(implementation)
    with (
        pytest.raises(KeyError, match="planted"),
        capture_attention(model, rows=last_rows(real), regions=regions),
    ):
        assert isinstance(entry(implementation), ObservedAttention)
        raise KeyError("planted")
    assert entry(implementation) is before
    assert set(capture(model, inputs, regions, last_rows(real)).layers) == {0, 1, 2}


def test_an_override_that_was_there_is_called_and_restored(implementation):
    model = build("qwen2", implementation)
    inputs, regions, real = prompt("qwen2")
    plain, called = run(model, inputs).logits, []
    library = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def override(module, *tensors, **arguments):
        called.append(module.layer_idx)
        output, weights = library(module, *tensors, **arguments)
        return output * 0.5, weights

    ALL_ATTENTION_FUNCTIONS[implementation] = override
    try:
        with capture_attention(model, rows=last_rows(real), regions=regions) as recorder:
            changed = run(model, inputs).logits
        assert entry(implementation) is override
    finally:
        del ALL_ATTENTION_FUNCTIONS[implementation]
    assert called == [0, 1, 2] == sorted(recorder.layers)
    assert not torch.equal(changed, plain)
    assert torch.equal(run(model, inputs).logits, plain)


def test_captures_do_not_nest_and_the_outer_one_survives(implementation):
    model = build("qwen2", implementation)
    inputs, regions, real = prompt("qwen2")
    rows = last_rows(real)
    with capture_attention(model, rows=rows, regions=regions) as recorder:
        with (
            pytest.raises(ModelError, match="one capture at a time"),
            capture_attention(build("qwen2"), rows=rows, regions=regions),
        ):
            pass
        run(model, inputs)
    assert set(recorder.layers) == {0, 1, 2}


def test_other_models_of_the_process_are_not_recorded(implementation):
    model, other = build("qwen2", implementation), build("qwen2", implementation, seed=5)
    inputs, regions, real = prompt("qwen2")
    rows = last_rows(real)
    plain = run(other, inputs).logits
    with capture_attention(model, rows=rows, regions=regions) as recorder:
        assert torch.equal(run(other, inputs).logits, plain)
        assert recorder.layers == {}
        run(model, inputs)
    assert set(recorder.layers) == {0, 1, 2}


def test_the_vision_tower_is_not_recorded(implementation):
    model = build("qwen2_vl", implementation)
    inputs, regions, real = prompt("qwen2_vl")
    seen = []
    tower = model.model.visual
    hook = tower.blocks[0].attn.register_forward_hook(lambda *_: seen.append("vision"))
    with capture_attention(model, rows=last_rows(real), regions=regions) as recorder:
        run(model, inputs)
        assert not entry(implementation).modules & set(tower.modules())
    hook.remove()
    assert seen == ["vision"]
    assert set(recorder.layers) == {0, 1, 2}


def test_a_second_forward_is_refused():
    model = build("qwen2")
    inputs, regions, real = prompt("qwen2")
    with capture_attention(model, rows=last_rows(real), regions=regions):
        run(model, inputs)
        with pytest.raises(ModelError, match="Qwen2Attention 0 ran twice"):
            run(model, inputs)


@pytest.mark.parametrize("family", ["qwen2", "mistral_sliding", "gemma3_mixed"])
def test_a_cached_prefix_gives_what_the_whole_prompt_gives(family):
    model = build(family)
    inputs, regions, real = prompt(family, batch=2)
    whole = capture(model, inputs, regions, last_rows(real, 4))
    cache, split = DynamicCache(config=model.config), 30
    with torch.no_grad():
        model(inputs["input_ids"][:, :split], past_key_values=cache)
        rows = QueryRows(last_rows(real, 4).batch, last_rows(real, 4).position - split)
        with capture_attention(model, rows=rows, regions=regions) as recorder:
            model(inputs["input_ids"][:, split:], past_key_values=cache, attention_mask=inputs["attention_mask"])
    check_recorded(recorder, model)
    for index, layer in whole.layers.items():
        torch.testing.assert_close(recorder.layers[index].mass, layer.mass, atol=1e-5, rtol=0)
        torch.testing.assert_close(recorder.layers[index].entropy_nats, layer.entropy_nats, atol=1e-5, rtol=0)


def test_bfloat16_statistics_are_exact_for_the_queries_and_keys_that_the_kernel_got():
    from rampipe.attention.interface import observe_attention

    model = build("qwen2").to(torch.bfloat16)
    inputs, regions, real = prompt("qwen2", batch=1)
    del inputs["attention_mask"]
    rows, calls = last_rows(real), []
    with observe_attention(model.get_decoder(), lambda module, call: calls.append(call)):
        run(model, inputs)
    recorder = capture(model, inputs, regions, rows)
    for index, call in enumerate(calls):
        keys = call.key.double().repeat_interleave(2, dim=1)
        logits = call.query.double() @ keys.transpose(2, 3) * call.scaling
        future = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
        shares = logits.masked_fill(future, -torch.inf).softmax(dim=-1)[0][:, rows.position]
        for region in range(7):
            mass = shares[..., regions[0] == region].sum(dim=-1)
            assert float((recorder.layers[index].mass[..., region] - mass).abs().max()) < 2e-6


@pytest.mark.parametrize(
    ("batch", "position", "code"), [([3], [1], "rows_out_of_range"), ([0], [40], "rows_out_of_range"), ([], [], "")]
)
def test_rows_outside_of_the_forward_are_refused(batch, position, code):
    model = build("qwen2")
    inputs, regions, _ = prompt("qwen2")
    rows = QueryRows(torch.tensor(batch, dtype=torch.long), torch.tensor(position, dtype=torch.long))
    with pytest.raises(SampleError, match="query row") as error:
        capture(model, inputs, regions, rows)
    assert code in error.value.code
    assert set(capture(model, inputs, regions, QueryRows(torch.tensor([2]), torch.tensor([39]))).layers) == {0, 1, 2}


def test_regions_must_name_every_key_and_no_learned_sink():
    model = build("qwen2")
    inputs, regions, real = prompt("qwen2")
    with pytest.raises(SampleError, match="40 keys, but regions name 39"):
        capture(model, inputs, regions[:, 1:], last_rows(real))
    with pytest.raises(SampleError, match="learned_sink"):
        capture(model, inputs, torch.full_like(regions, 7), last_rows(real))


def test_settings_that_would_lose_exactness_are_refused(monkeypatch):
    model = build("qwen2")
    _, regions, real = prompt("qwen2")
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    inexact = capture_attention(model, rows=last_rows(real), regions=regions)
    with pytest.raises(ModelError, match="'medium'; needed: 'highest'"), inexact:
        pass


def test_autocast_does_not_reach_the_second_pass():
    model = build("qwen2")
    inputs, regions, real = prompt("qwen2")
    exact = capture(model, inputs, regions, last_rows(real))
    observe = Recorder.observe

    def under_autocast(recorder, module, call):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            observe(recorder, module, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "observe", under_autocast)
        cast = capture(model, inputs, regions, last_rows(real))
    assert torch.equal(cast.layers[2].mass, exact.layers[2].mass)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # twin: the setting does change a matmul
        assert torch.matmul(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16


def test_missing_layers_are_an_error_of_the_model():
    model = build("qwen2")
    inputs, regions, real = prompt("qwen2")
    recorder = capture(model, inputs, regions, last_rows(real))
    check_recorded(recorder, model)
    del recorder.layers[1]
    with pytest.raises(ModelError, match=r"recorded layers \[0, 2\]; expected \[0, 1, 2\]"):
        check_recorded(recorder, model)


def test_layers_without_softmax_attention_are_not_expected():
    model = build("qwen2")
    model.config.layer_types = ["linear_attention", "full_attention", "sliding_attention"]
    assert expected_layers(model) == [1, 2]
    model.config.layer_types = None
    assert expected_layers(model) == [0, 1, 2]


@pytest.mark.parametrize(("planted", "code"), [(torch.nan, "nonfinite"), (torch.inf, "nonfinite"), (0.5, "mass_sum")])
def test_a_bad_row_is_named_and_only_that_row(planted, code):
    model = build("qwen2")
    inputs, regions, real = prompt("qwen2")
    recorder = capture(model, inputs, regions, last_rows(real))
    recorder.layers[2].mass[3, 7, 1] += planted
    assert bad_rows(recorder).nonzero().flatten().tolist() == [7]
    with pytest.raises(SampleError, match="row 7, layer 2, head 3") as error:
        check_recorded(recorder, model)
    assert (error.value.stage, error.value.code) == ("statistics", code)


def test_a_key_marked_as_padding_that_is_visible_is_found():
    model = build("qwen2")
    inputs, regions, real = prompt("qwen2")
    regions[1, :20] = -1
    rows = last_rows(real)
    recorder = capture(model, inputs, regions, rows)
    assert torch.equal(bad_rows(recorder), rows.batch == 1)
    with pytest.raises(SampleError, match="marked as padding"):
        check_recorded(recorder, model)
