"""Training: repeatable to the bit, and every packed question is the prompt of test time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rampipe.testbed.architecture import build_model
from rampipe.testbed.batches import make_batch
from rampipe.testbed.curriculum import GRID_SIDES, Curriculum
from rampipe.testbed.language import answer_logits, excess_sharpness, sharpness
from rampipe.testbed.packing import block_mask, pack_questions, packed_positions
from rampipe.testbed.parts import vision_tower
from rampipe.testbed.train import train_testbed
from rampipe.testbed.vision import cell_features, patchify


def train(folder: Path, *, seed: int) -> str:
    return train_testbed(
        folder,
        seed=seed,
        num_vision_steps=2,
        num_language_steps=3,
        num_consolidation_steps=2,
        report=lambda _line: None,
    )


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path) -> None:
    first, again, other = (train(tmp_path / str(seed), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_fast_vision_forward_is_the_stock_one() -> None:
    model = build_model(seed=0)
    pixels = make_batch(grid_side=3, num_images=4, rng=np.random.default_rng(0)).pixels
    one_frame = patchify(pixels).reshape(-1, 3, 1, 16, 16)
    grid = torch.tensor([[1, 6, 6]]).expand(4, 3)
    with torch.no_grad():
        stock = vision_tower(model)(one_frame.expand(-1, 3, 2, 16, 16).flatten(1), grid_thw=grid).pooler_output
        fast = cell_features(vision_tower(model), pixels)
    torch.testing.assert_close(fast.flatten(0, 1), stock, atol=1e-5, rtol=1e-5)


def test_packed_questions_are_blind_to_each_other() -> None:
    model = build_model(seed=0)
    batch = make_batch(grid_side=3, num_images=4, rng=np.random.default_rng(1))
    packed = pack_questions(batch, num_questions=3, rng=np.random.default_rng(2))
    changed = pack_questions(batch, num_questions=3, rng=np.random.default_rng(3))
    changed.input_ids[:, : packed.target_rows[1, 0] - 5] = packed.input_ids[:, : packed.target_rows[1, 0] - 5]
    with torch.no_grad():
        logits, _ = answer_logits(model, batch, packed)
        others, _ = answer_logits(model, batch, changed)
    torch.testing.assert_close(logits[:, 0], others[:, 0])
    assert not torch.allclose(logits[:, 1], others[:, 1])


def test_packed_positions_are_those_of_a_single_prompt() -> None:
    model = build_model(seed=0)
    batch = make_batch(grid_side=4, num_images=4, rng=np.random.default_rng(1))
    single = pack_questions(batch, num_questions=1, rng=np.random.default_rng(2))
    ids = single.input_ids[:1]
    positions, _ = model.model.get_rope_index(
        ids, (ids == model.config.image_token_id).int(), image_grid_thw=torch.tensor([[1, 8, 8]])
    )
    assert torch.equal(packed_positions(grid_side=4, num_questions=1), positions)
    several = packed_positions(grid_side=4, num_questions=3)
    assert torch.equal(several[:, :, -8:], positions[:, :, -8:])


def test_the_mask_of_one_question_is_causal() -> None:
    assert torch.equal(block_mask(num_cells=4, num_questions=1), torch.ones(15, 15).tril().bool())
    two = block_mask(num_cells=4, num_questions=2)
    assert not two[15:, 7:15].any()
    assert two[15:, :7].all()


def test_the_curriculum_waits_for_every_domain() -> None:
    lagging, even = Curriculum(), Curriculum()
    assert not any(lagging.record(0, np.array([1.0, 1.0, 1.0, 0.5])) for _ in range(50))
    assert any(even.record(0, np.ones(4)) for _ in range(50))
    assert even.stage == 1
    for _ in range(50):
        even.record(even.stage, np.ones(4))
    assert 1 < even.stage < len(GRID_SIDES)


def test_sharp_heads_pay_two_for_one_pay_more_and_spread_heads_pay_nothing() -> None:
    looks = torch.zeros(4, 3, 20, 20)
    rows, cell = torch.tensor([10, 15]), 5
    alone, divided, spread = looks.clone(), looks.clone(), looks.clone()
    alone[:, 0, rows, cell] = 1.0
    divided[:2, 0, rows, cell] = divided[2:, 1, rows, cell] = 1.0
    spread[:, :, rows, 2:11] = 1 / 20
    alone_cost, divided_cost, spread_cost = (
        float(excess_sharpness(sharpness([attention], asking_rows=rows, num_cells=9)))
        for attention in (alone, divided, spread)
    )
    assert alone_cost == pytest.approx(0.8, abs=1e-3)
    assert divided_cost > alone_cost
    assert spread_cost == 0.0
