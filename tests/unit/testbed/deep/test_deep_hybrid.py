"""Hybrid attention on packed questions: what restricted heads see, and that full ones see all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.deep.architecture import NUM_LAYERS
from rampipe.testbed.deep.attention import Plan
from rampipe.testbed.deep.content import draw_content
from rampipe.testbed.deep.evaluate import ORDERS
from rampipe.testbed.deep.hybrid import compare, hidden_keys, hybrid, prompt_places
from rampipe.testbed.deep.language import Step, answer_logits
from rampipe.testbed.deep.layout import ImageLayout, Layout, ListLayout
from rampipe.testbed.deep.packing import Order, pack
from rampipe.testbed.vocabulary import IMAGE, TOKEN_IDS
from rampipe.types import HeadId

LAYOUT: Layout = (ImageLayout((2, 3), (1, 2)), ListLayout(3), ImageLayout((3, 2), (2, 1)))
NUM_VISUAL = 24
ALL = [HeadId(layer, head) for layer in range(NUM_LAYERS) for head in range(16)]
orders = pytest.mark.parametrize("order", ORDERS)


def draw(order: Order, *, num_questions: int) -> Step:
    rng = np.random.default_rng(0)
    contents = [draw_content(LAYOUT, rng=rng)]
    packed = pack(LAYOUT, contents, order=order, num_questions=num_questions, sees="all", rng=rng)
    visual = torch.randn(NUM_VISUAL, 192, generator=torch.Generator().manual_seed(0))
    return Step(LAYOUT, contents, packed, visual, order)


def logits(model: Qwen2VLForConditionalGeneration, step: Step) -> torch.Tensor:
    own_plan = replace(step, packed=replace(step.packed, plan=Plan(step.packed.plan.blocks)))
    with torch.no_grad():
        return answer_logits(model, own_plan)


@orders
def test_places_are_those_of_each_questions_own_prompt(order: Order) -> None:
    single = draw(order, num_questions=1)
    num_tokens = single.packed.input_ids.shape[1]
    assert prompt_places(single).tolist() == list(range(num_tokens))
    packed = draw(order, num_questions=3)
    places, context = prompt_places(packed), packed.packed.context
    lengths = {int(places[row]) + 1 for row in packed.packed.target_rows[:, -1]}
    assert places[context].tolist() == list(range(int(places[context.start]), int(places[context.start]) + 40))
    for rows in packed.packed.target_rows:
        assert (places[rows].diff() == 1).all()
    if order == "question_first":
        assert len(lengths) == 1
        assert places[: context.start].max() == places[context.start] - 1


@orders
def test_restricted_heads_miss_far_visual_tokens_and_with_a_strict_window_far_text(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rampipe.testbed.deep.hybrid.WINDOW_TOKENS", 5)
    step = draw(order, num_questions=2)
    places, is_text = prompt_places(step), step.packed.input_ids[0] != TOKEN_IDS[IMAGE]
    strict = hidden_keys(step, keep_text=False)
    last = int(step.packed.target_rows[0, -1])
    assert set(places[~strict[last]].tolist()) == {*range(4), *range(int(places[last]) - 4, int(places.max()) + 1)}
    kept = hidden_keys(step, keep_text=True)
    assert not kept[:, is_text].any()
    assert torch.equal(kept[:, ~is_text], strict[:, ~is_text])


@orders
def test_with_all_heads_full_nothing_changes(model: Qwen2VLForConditionalGeneration, order: Order) -> None:
    step = draw(order, num_questions=3)
    hidden = torch.ones(2 * [step.packed.input_ids.shape[1]], dtype=torch.bool)
    plain = logits(model, step)
    with hybrid(model, ALL, hidden):
        same = logits(model, step)
    torch.testing.assert_close(same, plain, atol=1e-3, rtol=1e-3)
    with hybrid(model, ALL[:-1], hidden):
        assert not torch.allclose(logits(model, step), plain, atol=1e-3)
    assert torch.equal(logits(model, step), plain)


def test_only_a_full_head_reads_what_lies_outside_the_window(
    model: Qwen2VLForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rampipe.testbed.deep.hybrid.WINDOW_TOKENS", 2)
    monkeypatch.setattr("rampipe.testbed.deep.hybrid.SINK_TOKENS", 0)
    step = draw("context_first", num_questions=2)
    changed = replace(step, visual=torch.cat([step.visual[:4] + 1, step.visual[4:]]))
    hidden = hidden_keys(step, keep_text=False)
    with hybrid(model, [], hidden):
        torch.testing.assert_close(logits(model, step), logits(model, changed), atol=1e-5, rtol=1e-5)
    with hybrid(model, [HeadId(3, 7)], hidden):
        assert not torch.allclose(logits(model, step), logits(model, changed), atol=1e-5)


def test_needles_are_compared_in_pairs_with_an_error_over_contexts() -> None:
    accuracy = {"all": [1.0, 1.0, 1.0, 0.0], "top": [1.0, 0.0, 1.0, 0.0]}
    measured = {
        (arm, "text"): {(place // 2, place): value for place, value in enumerate(own)} for arm, own in accuracy.items()
    }
    top = compare(measured, "all")["top", "text"]
    assert top[:3] == (4, 0.5, -0.25)
    assert top.error == pytest.approx(np.hypot(-0.5, 0.5) / 4)
