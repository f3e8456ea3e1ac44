"""Training of the deep testbed: repeatable, resumable, and every packed question is the prompt of test time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.checkpoint import make_tokenizer, weights_path
from rampipe.testbed.deep.architecture import NUM_FRESH_LAYERS, build_deep_model, set_rope_base
from rampipe.testbed.deep.attention import LARGE_ROWS, Plan
from rampipe.testbed.deep.checkpoint import CHAT_TEMPLATE, save_deep_checkpoint
from rampipe.testbed.deep.content import draw_content
from rampipe.testbed.deep.curriculum import LEVELS, Curriculum, Level
from rampipe.testbed.deep.language import (
    Step,
    answer_logits,
    draw_step,
    evidence_masses,
    key_loss,
    last_hidden,
    sharpness,
)
from rampipe.testbed.deep.layout import ImageLayout, Layout, ListLayout, Size, draw_layout
from rampipe.testbed.deep.packing import Order, Packed, Sight, pack
from rampipe.testbed.deep.stages import Stage, run_stage
from rampipe.testbed.deep.words import TOKEN_IDS
from rampipe.testbed.parts import decoder_layers, language_model
from rampipe.testbed.vocabulary import FIRST_KEY_ID, IMAGE

ORDERS: tuple[Order, ...] = ("context_first", "question_first")
LAYOUT: Layout = (ImageLayout((2, 3), (1, 2)), ListLayout(3), ImageLayout((3, 2), (2, 1)))
SMALL = Level(Size((1, 2), 3, (1, 4), 24, (2, 4)), num_contexts=2, num_questions=3, by_parts_frac=0.5)
orders = pytest.mark.parametrize("order", ORDERS)


def pack_one(order: Order, *, num_questions: int = 1, sees: Sight = "all", seed: int = 0) -> Packed:
    rng = np.random.default_rng(seed)
    contents = [draw_content(LAYOUT, rng=rng) for _ in range(2)]
    return pack(LAYOUT, contents, order=order, num_questions=num_questions, sees=sees, rng=rng)


def allowed(plan: Plan, num_tokens: int) -> torch.Tensor:
    """Which row may see which key, put together from the blocks."""
    found = torch.zeros(num_tokens, num_tokens, dtype=torch.bool)
    for block in plan.blocks:
        found[block.rows.start : block.rows.stop, block.keys] = block.mask == 0
    return found


@orders
def test_one_packed_question_is_the_prompt_that_the_chat_template_writes(order: Order) -> None:
    packed = pack_one(order)
    tokenizer = make_tokenizer(TOKEN_IDS, chat_template=CHAT_TEMPLATE)
    words = [str(tokenizer.decode([index])) for index in packed.input_ids[0].tolist()]
    num_context = sum(part.num_tokens for part in LAYOUT)
    start = len(words) - 4 - num_context if order == "question_first" else 1
    context, rest = words[start : start + num_context], words[1:start] + words[start + num_context : -4]
    images: list[dict[str, str]] = [
        {"type": "image"},
        {"type": "text", "text": " ".join(context[14:26])},
        {"type": "image"},
    ]
    asked = {"type": "text", "text": " ".join(rest)}
    content = [*images, asked] if order == "context_first" else [asked, *images]
    message: dict[str, Any] = {"role": "user", "content": content}
    text = str(tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True))
    ids = tokenizer(text.replace(IMAGE, IMAGE * 12))["input_ids"]
    assert ids == packed.input_ids[0, :-2].tolist()


@orders
def test_packed_positions_are_those_of_a_single_prompt(order: Order) -> None:
    model = build_deep_model(weights_path(), seed=0)
    packed = pack_one(order)
    ids = packed.input_ids[:1]
    grids = torch.tensor([[1, 2 * part.grid[0], 2 * part.grid[1]] for part in LAYOUT if isinstance(part, ImageLayout)])
    kinds = (ids == TOKEN_IDS[IMAGE]).int()
    rope: Any = model.model.get_rope_index
    positions, _ = rope(ids, kinds, image_grid_thw=grids)
    assert torch.equal(packed.positions, positions)
    several = pack_one(order, num_questions=3)
    assert several.positions.max() <= packed.positions.max() + 2


@orders
def test_the_mask_of_one_question_is_causal_unless_parts_are_apart(order: Order) -> None:
    packed = pack_one(order, seed=1)
    num_tokens = packed.input_ids.shape[1]
    causal = torch.ones(num_tokens, num_tokens).tril().bool()
    seen = allowed(packed.plan, num_tokens)
    hidden = causal & ~seen
    assert not (seen & ~causal).any()
    if order == "context_first":
        assert not hidden.any()
    apart = allowed(pack_one(order, seed=1, sees="nothing").plan, num_tokens)
    assert (apart != seen).any()
    assert torch.equal(apart[packed.target_rows[0]], seen[packed.target_rows[0]])


@orders
def test_parts_that_are_read_apart_may_see_each_others_text(order: Order) -> None:
    sights: tuple[Sight, ...] = ("all", "nothing", "text")
    whole, apart, with_text = (pack_one(order, num_questions=3, seed=1, sees=sees) for sees in sights)
    num_tokens = whole.input_ids.shape[1]
    seen, own, found = (allowed(packed.plan, num_tokens) for packed in (whole, apart, with_text))
    is_text = whole.input_ids[0] != TOKEN_IDS[IMAGE]
    assert torch.equal(found, torch.where(is_text[None, :], seen, own))
    assert (found != own).any()
    assert (found != seen).any()


def fixed_step(order: Order, *, sees: Sight, seed: int) -> Step:
    packed = pack_one(order, num_questions=3, sees=sees, seed=seed)
    visual = torch.randn(2 * 24, 192, generator=torch.Generator().manual_seed(0))
    return Step(LAYOUT, (), packed, visual, order)


@orders
@pytest.mark.parametrize("large_rows", [LARGE_ROWS, 8])
def test_block_attention_is_eager_attention_under_the_same_mask(
    order: Order, large_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rampipe.testbed.deep.attention.LARGE_ROWS", large_rows)
    model = build_deep_model(weights_path(), seed=0)
    step = fixed_step(order, sees="nothing", seed=2)
    assert any(len(block.mask) > large_rows for block in step.packed.plan.blocks[:-1]) == (large_rows == 8)
    num_tokens = step.packed.input_ids.shape[1]
    full = torch.zeros(num_tokens, num_tokens)
    full = full.masked_fill(~allowed(step.packed.plan, num_tokens), torch.finfo(torch.float32).min)
    with torch.no_grad():
        blocks = answer_logits(model, step)
        language_model(model).set_attn_implementation("eager")
        embedded = language_model(model).embed_tokens(step.packed.input_ids)
        is_cell = step.packed.input_ids == TOKEN_IDS[IMAGE]
        outputs = language_model(model)(
            inputs_embeds=embedded.masked_scatter(is_cell[..., None], step.visual),
            position_ids=step.packed.positions,
            attention_mask={"full_attention": full[None, None]},
            use_cache=False,
        )
        eager = model.lm_head(outputs.last_hidden_state[:, step.packed.target_rows])
    torch.testing.assert_close(blocks, eager, atol=1e-4, rtol=1e-4)


@orders
def test_packed_questions_are_blind_to_each_other(order: Order) -> None:
    model = build_deep_model(weights_path(), seed=0)
    step = fixed_step(order, sees="all", seed=3)
    ids = step.packed.input_ids.clone()
    rows = step.packed.target_rows
    ids[:, rows[1]] = TOKEN_IDS["what"]
    changed = replace(step, packed=replace(step.packed, input_ids=ids, plan=Plan(step.packed.plan.blocks)))
    with torch.no_grad():
        before, after = answer_logits(model, step), answer_logits(model, changed)
    torch.testing.assert_close(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_the_key_loss_asks_for_the_answer_where_the_question_names_its_key_and_nowhere_else() -> None:
    model = build_deep_model(weights_path(), seed=0)
    step = fixed_step("context_first", sees="all", seed=3)
    packed = step.packed
    with torch.no_grad():
        hidden = last_hidden(model, step)
        words = model.lm_head(hidden).log_softmax(dim=-1)
        found = key_loss(model, step, hidden)
    expected: list[torch.Tensor] = []
    others = torch.ones(hidden.shape[:2], dtype=torch.bool)
    starts = [packed.context.stop, *(packed.target_rows[:-1, -1] + 1).tolist()]
    for context, keys in enumerate(packed.keys.tolist()):
        for question, (key, start) in enumerate(zip(keys, starts, strict=True)):
            row = start + packed.input_ids[context, start:].tolist().index(FIRST_KEY_ID + key)
            expected.append(-words[context, row, packed.targets[context, question, 0]])
            others[context, row] = False
    torch.testing.assert_close(found, torch.stack(expected).mean())
    hidden[others] = torch.randn(int(others.sum()), hidden.shape[-1])
    assert torch.equal(key_loss(model, step, hidden), found)


def test_a_stage_can_begin_with_weights_as_a_checkpoint_has_them(tmp_path: Path) -> None:
    model, rounded = (build_deep_model(weights_path(), seed=0) for _ in range(2))
    stage = Stage(name="none", num_steps=0, levels=(0, 0), rates=(0.1, 0.1), seed=0)
    run_stage(model, stage, tmp_path)
    run_stage(rounded, replace(stage, from_half=True), tmp_path)
    pairs = list(zip(language_model(model).parameters(), language_model(rounded).parameters(), strict=True))
    assert all(torch.equal(weight.half().float(), half) for weight, half in pairs)
    assert any(not torch.equal(weight, half) for weight, half in pairs)


def test_targets_are_the_value_of_the_slot_and_masses_are_shares() -> None:
    model = build_deep_model(weights_path(), seed=0)
    step = draw_step(model, LEVELS[3], rng=np.random.default_rng(0))
    for content, slots, targets in zip(step.contents, step.packed.asked, step.packed.targets, strict=True):
        for slot, target in zip(slots, targets.tolist(), strict=True):
            if slot >= 0:
                assert target == [*(TOKEN_IDS[str(digit)] for digit in content.digits[slot]), TOKEN_IDS["<|end|>"]]
                assert content.askable[slot]
    with torch.no_grad():
        answer_logits(model, step)
    masses, sharp = evidence_masses(step, "image"), sharpness(step)
    assert masses is not None
    assert masses.shape == sharp.shape == (8, 16)
    assert masses.min() > 0
    assert masses.max() <= 1
    assert sharp.max() <= 1.001


def test_the_small_models_blocks_lie_on_the_fresh_ones() -> None:
    model, other = (build_deep_model(weights_path(), seed=seed) for seed in (0, 1))
    for index, (layer, twin) in enumerate(zip(decoder_layers(model), decoder_layers(other), strict=True)):
        same = torch.equal(layer.self_attn.q_proj.weight, twin.self_attn.q_proj.weight)
        assert same == (index >= NUM_FRESH_LAYERS)


def test_a_higher_rope_base_turns_heads_less_with_distance_and_is_saved_with_the_model(tmp_path: Path) -> None:
    model = build_deep_model(weights_path(), seed=0)
    before = language_model(model).rotary_emb.inv_freq.clone()
    set_rope_base(model, 1e6)
    after = language_model(model).rotary_emb.inv_freq
    assert after[0] == before[0] == 1
    assert (after[1:] < before[1:]).all()
    save_deep_checkpoint(model, tmp_path)
    loaded = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(language_model(loaded).rotary_emb.inv_freq, after)


def test_layouts_keep_to_their_size() -> None:
    rng = np.random.default_rng(0)
    for level in LEVELS:
        for _ in range(50):
            layout = draw_layout(level.size, rng=rng)
            images = [part for part in layout if isinstance(part, ImageLayout)]
            assert level.size.num_images[0] <= len(images) <= level.size.num_images[1]
            assert all(max(image.grid) <= 16 and min(image.items) >= 2 for image in images)
            assert sum(image.num_tokens - 2 for image in images) <= 1.2 * level.size.max_visual_tokens


def test_the_curriculum_advances_on_accuracy_alone() -> None:
    curriculum = Curriculum(last=2)
    assert not any(curriculum.record(0, 0.7) for _ in range(50))
    assert any(curriculum.record(0, 1.0) for _ in range(50))
    assert not curriculum.record(0, 1.0)
    assert curriculum.level == 1


def test_a_stage_may_say_how_often_parts_are_read_apart() -> None:
    stage = Stage("apart", 1, levels=(7, 7), rates=(1.0, 1.0), seed=0, more_entries=4, questions_factor=3)
    half = replace(stage, by_parts_frac=0.5)
    assert stage.asked(7).by_parts_frac == 1
    assert half.asked(7) == replace(stage.asked(7), by_parts_frac=0.5, sight_of_parts="text")


def train(folder: Path, *, steps: Sequence[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights after two stages, the second of which was interrupted at each of the steps but the last."""
    folder.mkdir()
    for num_steps in steps:
        model = build_deep_model(weights_path(), seed=seed)
        hop = Stage("hop", 2, levels=(0, 0), rates=(1.0, 1.0), seed=seed, hop_only=True)
        answers = replace(hop, name="answers", num_steps=num_steps, hop_only=False, binding=True, head_dropout=True)
        for stage in (hop, replace(answers, more_entries=1, price=0.02)):
            run_stage(model, stage, folder, report=lambda _line: None)
    return {name: weight.clone() for name, weight in language_model(model).state_dict().items()}  # pyright: ignore


def test_a_stage_gives_the_same_weights_again_also_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rampipe.testbed.deep.stages.LEVELS", (SMALL,))
    whole, again, resumed, other = (
        train(tmp_path / name, steps=steps, seed=seed)
        for name, steps, seed in (("whole", [4], 0), ("again", [4], 0), ("resumed", [2, 4], 0), ("other", [4], 1))
    )
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in whole.items())
