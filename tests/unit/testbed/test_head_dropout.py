"""Head dropout of the last stage: blunt heads are silenced image by image, sharp ones never."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rampipe.testbed.architecture import NUM_HEADS, NUM_LAYERS, build_model
from rampipe.testbed.batches import make_batch
from rampipe.testbed.head_dropout import DROPOUT_RATE, MEMORY, HeadDropout
from rampipe.testbed.language import answer_logits
from rampipe.testbed.packing import pack_questions


def make_dropout(*, seed: int = 0) -> HeadDropout:
    return HeadDropout(build_model(seed=0), free_sharpness=0.2, rng=np.random.default_rng(seed))


def test_sharp_heads_are_spared_and_blunt_heads_are_drawn_at_the_rate() -> None:
    dropout = make_dropout()
    sharpness = torch.zeros(NUM_LAYERS, NUM_HEADS)
    sharpness[0, 5] = 0.9
    dropout.record(sharpness)
    drawn = dropout.draw(num_images=400).float().mean(dim=1)
    assert drawn[0, 5] == 0.0
    drawn[0, 5] = DROPOUT_RATE
    torch.testing.assert_close(drawn, torch.full_like(drawn, DROPOUT_RATE), atol=0.1, rtol=0)


def test_a_head_is_blunt_only_after_several_blunt_steps() -> None:
    dropout = make_dropout()
    dropout.record(torch.full((NUM_LAYERS, NUM_HEADS), 0.2 / MEMORY + 0.01))
    for num_blunt_steps, is_silenced in ((1, False), (2, True)):
        dropout.record(torch.zeros(NUM_LAYERS, NUM_HEADS))
        assert bool(dropout.draw(num_images=8).any()) == is_silenced, num_blunt_steps


def test_nothing_is_silenced_before_a_step_was_seen() -> None:
    assert not make_dropout().draw(num_images=50).any()


@pytest.mark.parametrize("is_sharp", [True, False])
def test_the_forward_changes_only_while_active_and_only_for_blunt_heads(is_sharp: bool) -> None:
    model = build_model(seed=0)
    dropout = HeadDropout(model, free_sharpness=0.2, rng=np.random.default_rng(0))
    dropout.record(torch.full((NUM_LAYERS, NUM_HEADS), float(is_sharp)))
    batch = make_batch(grid_side=2, num_images=4, rng=np.random.default_rng(1))
    packed = pack_questions(batch, num_questions=2, rng=np.random.default_rng(2))
    with torch.no_grad():
        before, _ = answer_logits(model, batch, packed)
        with dropout.active(num_images=4):
            during, _ = answer_logits(model, batch, packed)
        after, _ = answer_logits(model, batch, packed)
    assert torch.equal(before, after)
    assert torch.equal(before, during) == is_sharp
