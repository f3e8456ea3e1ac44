"""Silenced heads are gone from the input of the output projection, and everything is as before afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention.capture import QueryRows, capture_attention, check_recorded
from rampipe.attention.mask import silence_heads
from rampipe.attention.restriction import RestrictedAttention
from rampipe.errors import ConfigError, ModelError
from rampipe.types import HeadId
from tests.unit.attention.silencing import (
    CONTEXT_STOP,
    FAMILIES,
    HEADS,
    MODES,
    NUM_TOKENS,
    POSITIONS,
    logits,
    make_case,
    projection_of,
)

NO_HEADS = frozenset()


def hooks_of(model):
    return [
        (name, list(hooks.values()))
        for name, module in model.named_modules()
        for hooks in (module._forward_pre_hooks, module._forward_hooks)
        if hooks
    ]


def greedy_by_hand(model, inputs, num_steps):
    """Plain loop over the cache, with the positions of a left-padded batch."""
    inputs, cache, tokens = dict(inputs), DynamicCache(config=model.config), []
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
    position = (mask.cumsum(dim=1) - 1).clamp(min=0)
    for _ in range(num_steps):
        output = model(input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache)
        ids = output.logits[:, -1:].argmax(dim=-1)
        tokens.append(ids)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        position = position[:, -1:] + 1
    return torch.cat(tokens, dim=1)


def generated(model, inputs, num_steps):
    output = model.generate(**inputs, max_new_tokens=num_steps, min_new_tokens=num_steps, do_sample=False)
    return output[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("positions", POSITIONS)
def test_the_slices_are_exactly_zero_in_prefill_and_in_every_decode_step(family, positions):
    case = make_case(family)
    seen = {layer: [] for layer in range(3)}
    with torch.no_grad(), silence_heads(case.model, case.silence(positions=positions)):
        for layer, inputs_seen in seen.items():
            projection_of(case.model, layer).register_forward_pre_hook(
                lambda _, arguments, found=inputs_seen: found.append(arguments[0].clone())
            )
        generated(case.model, case.inputs, 4)
    first = {"all": 0, "after_context": CONTEXT_STOP, "decode": NUM_TOKENS}[positions]
    for layer, inputs_seen in seen.items():
        outputs = torch.cat(inputs_seen, dim=1).unflatten(-1, (4, -1))
        assert [len(part[0]) for part in inputs_seen] == [NUM_TOKENS, 1, 1, 1]
        chosen = [head.head for head in HEADS if head.layer == layer]
        others = [head for head in range(4) if head not in chosen]
        assert (outputs[:, first:, chosen] == 0).all()
        assert (outputs[0, :first, chosen].abs().sum(dim=-1) > 0).all()
        assert (outputs[0, :, others].abs().sum(dim=-1) > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
def test_no_head_changes_no_bit_and_one_head_does(family, mode):
    case = make_case(family)
    plain = case.logits()
    assert torch.equal(case.logits(case.silence(NO_HEADS, mode)), plain)
    assert torch.equal(case.logits(case.silence([NO_HEADS, NO_HEADS], mode)), plain)
    assert not torch.allclose(case.logits(case.silence(frozenset({HeadId(1, 2)}), mode)), plain, atol=1e-3)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_the_same_modules_are_free_of_hooks_afterwards(implementation, raises, mode):
    case = make_case(implementation=implementation)
    plain, before = case.logits(), ALL_ATTENTION_FUNCTIONS.get(implementation)
    weights = {name: weight.clone() for name, weight in case.model.state_dict().items()}
    assert hooks_of(case.model) == []
    try:
        with silence_heads(case.model, case.silence(mode=mode)):
            names = [name for name, _ in hooks_of(case.model)]
            assert ("model.layers.1.self_attn.o_proj" in names) == (mode in ("zero", "mean"))
            assert isinstance(ALL_ATTENTION_FUNCTIONS.get(implementation), RestrictedAttention) != (
                mode in ("zero", "mean")
            )
            logits(case.model, case.inputs)
            if raises:
                raise KeyError("planted")
    except KeyError:
        assert raises
    assert hooks_of(case.model) == []
    assert ALL_ATTENTION_FUNCTIONS.get(implementation) is before
    assert torch.equal(case.logits(), plain)
    assert all(torch.equal(weight, weights[name]) for name, weight in case.model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_is_what_a_projection_without_the_columns_gives(family):
    case = make_case(family)
    cut = copy.deepcopy(case.model)
    for head in HEADS:
        weight = projection_of(cut, head.layer).weight
        dim = weight.shape[1] // 4
        weight.data[:, head.head * dim : (head.head + 1) * dim] = 0
    silenced = case.logits(case.silence())
    torch.testing.assert_close(silenced, logits(cut, case.inputs), atol=1e-6, rtol=0)
    wrong = case.logits(case.silence(frozenset({*HEADS, HeadId(2, 0)})))
    assert float((wrong - logits(cut, case.inputs)).abs().max()) > 1e-3


def test_a_silenced_nan_does_not_reach_the_sum():
    case = make_case()
    projection = projection_of(case.model, 2)

    def spoil(_, arguments):
        inputs = arguments[0].clone()
        inputs[..., 16:24] = torch.nan  # head 2
        return (inputs,)

    handle = projection.register_forward_pre_hook(spoil)
    assert case.logits().isnan().any()
    assert not case.logits(case.silence(frozenset({HeadId(2, 2)}))).isnan().any()
    handle.remove()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("positions", POSITIONS)
def test_generate_is_the_greedy_loop_by_hand(mode, positions):
    case = make_case()
    silence = case.silence(mode=mode, positions=positions)
    with torch.no_grad():
        with silence_heads(case.model, silence):
            together, by_hand = generated(case.model, case.inputs, 6), greedy_by_hand(case.model, case.inputs, 6)
        plain = generated(case.model, case.inputs, 6)
    assert torch.equal(together, by_hand)
    if positions == "decode":
        assert torch.equal(together[:, 0], plain[:, 0])
    assert not torch.equal(together, plain)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("positions", POSITIONS)
def test_arms_in_one_batch_are_the_arms_one_by_one(mode, positions):
    case = make_case(batch=4, padding="none")
    case.inputs = {name: tensor[:1].expand(4, -1) for name, tensor in case.inputs.items()}
    stop = {"prompt_stop": [NUM_TOKENS - 2] * 4}
    arms = [NO_HEADS, HEADS, frozenset({HeadId(0, 1)}), frozenset({HeadId(1, 0), HeadId(2, 3)})]
    together = case.logits(case.silence(arms, mode, positions, **stop))
    for row, arm in enumerate(arms):
        alone = {name: tensor[:1] for name, tensor in case.inputs.items()}
        single = make_case(batch=1, padding="none")
        found = single.logits(single.silence(arm, mode, positions, prompt_stop=[NUM_TOKENS - 2]), alone)
        torch.testing.assert_close(together[row : row + 1], found, atol=1e-5, rtol=0)
    for row in range(1, 4):
        assert float((together[row] - together[0]).abs().max()) > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_arms_does_not_matter(mode):
    case = make_case()
    arms = [case.silence(frozenset({head}), mode) for head in sorted(HEADS)]
    forth = [case.logits(arm) for arm in arms]
    back = [case.logits(arm) for arm in reversed(arms)]
    for first, second in zip(forth, reversed(back), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(forth[0], forth[1])


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_models_keep_their_type_and_the_rows_that_are_not_meant(mode):
    case = make_case(padding="none")
    exact = case.logits(case.silence(mode=mode, positions="after_context"))
    case.model.to(torch.bfloat16)
    found = case.logits(case.silence(mode=mode, positions="after_context"))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found[:, :CONTEXT_STOP], case.logits()[:, :CONTEXT_STOP])
    rounding = float((found - exact)[:, :CONTEXT_STOP].abs().max())
    assert float((found - exact)[:, CONTEXT_STOP:].abs().max()) < 3 * rounding


@pytest.mark.parametrize("mode", MODES)
def test_silences_do_not_nest_and_the_outer_one_survives(mode):
    case = make_case()
    silenced = case.logits(case.silence(mode=mode))
    with silence_heads(case.model, case.silence(mode=mode)):
        with (
            pytest.raises(ModelError, match="silenced already"),
            silence_heads(case.model, case.silence(NO_HEADS)),
        ):
            pass
        assert torch.equal(case.logits(), silenced)


@pytest.mark.parametrize("mode", MODES)
def test_another_model_of_the_process_is_not_silenced(mode):
    case, other = make_case(), make_case("qwen3_wide_heads")
    plain, silenced = other.logits(), other.logits(other.silence(mode=mode))
    with silence_heads(case.model, case.silence(mode=mode)):
        assert torch.equal(other.logits(), plain)
        assert torch.equal(other.logits(other.silence(mode=mode)), silenced)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("silence_first", [True, False])
def test_a_capture_sees_the_silenced_forward(mode, silence_first):
    case = make_case()
    regions = torch.where(case.inputs["attention_mask"] == 1, case.evidence.long() * -5 + 5, -1).to(torch.int8)
    rows = QueryRows(torch.tensor([0, 1]), torch.tensor([NUM_TOKENS - 1] * 2))
    silence = case.silence(frozenset({HeadId(0, 1)}), mode)
    silenced = case.logits(silence)
    with capture_attention(case.model, rows=rows, regions=regions) as plain:
        case.logits()
    capture = capture_attention(case.model, rows=rows, regions=regions)
    if silence_first:
        with silence_heads(case.model, silence), capture as recorder:
            found = case.logits()
    else:
        with capture as recorder:
            found = case.logits(silence)
    check_recorded(recorder, case.model)
    assert torch.equal(found, silenced)
    assert torch.equal(recorder.layers[0].mass, plain.layers[0].mass)
    assert not torch.allclose(recorder.layers[1].mass, plain.layers[1].mass, atol=1e-4)


@pytest.mark.parametrize("head", [HeadId(3, 0), HeadId(0, 4), HeadId(0, -1)])
def test_heads_that_the_model_lacks_are_refused(head):
    case = make_case()
    silence = silence_heads(case.model, case.silence(frozenset({head})))
    with pytest.raises(ConfigError, match=r"layers \[0, 1, 2\] only|has heads 0 to 3"), silence:
        pass
    assert hooks_of(case.model) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_another_size_is_refused(mode):
    case = make_case()
    one = {name: tensor[:1] for name, tensor in case.inputs.items()}
    with pytest.raises(ConfigError, match="silence for 2 batch rows: the forward has 1"):
        case.logits(case.silence([HEADS, HEADS], mode), one)


@pytest.mark.parametrize("is_caught", [True, False])
def test_attention_that_runs_past_the_hooks_is_an_error(is_caught):
    class Unhooked(torch.nn.Linear):
        def __call__(self, hidden):
            return torch.nn.functional.linear(hidden, self.weight)

    case = make_case()
    plain = case.logits()
    if is_caught:
        projection_of(case.model, 1).__class__ = Unhooked
        with pytest.raises(ModelError, match=r"not through the attention of layers \[1\]"):
            case.logits(case.silence())
    else:
        assert not torch.equal(case.logits(case.silence()), plain)
    assert hooks_of(case.model) == []
    assert torch.equal(case.logits(), plain)
