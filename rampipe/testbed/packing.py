"""Packs several questions about one image into one sequence, each blind to the others.

A question block sees the image and itself, and its positions restart where the image ends. So every block is exactly
the single-question prompt of test time, and the image is computed once for up to eight questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rampipe.testbed.batches import Batch
from rampipe.testbed.domains import NUM_KEYS, QUESTION_TEMPLATES
from rampipe.testbed.vocabulary import (
    END,
    FIRST_DIGIT_ID,
    FIRST_KEY_ID,
    IMAGE,
    TOKEN_IDS,
    USER,
    VISION_END,
    VISION_START,
)

NUM_PREFIX_TOKENS = 2
NUM_QUESTION_TOKENS = len(QUESTION_TEMPLATES[0].split())
NUM_ANSWER_INPUTS = 2
BLOCK_TOKENS = NUM_QUESTION_TOKENS + NUM_ANSWER_INPUTS


@dataclass(frozen=True, slots=True)
class PackedQuestions:
    """Token ids of a batch, and for every question the three targets: two digits and the end token."""

    input_ids: Int[Tensor, "image token"]
    targets: Int[Tensor, "image question 3"]
    target_rows: Int[Tensor, "question 3"]
    """Rows of the sequence that predict the targets, the same in every image."""


def pack_questions(batch: Batch, *, num_questions: int, rng: np.random.Generator) -> PackedQuestions:
    """Asks for num_questions different cells of every image, each with a random template."""
    num_images, num_cells = batch.keys.shape
    prefix = [TOKEN_IDS[USER], TOKEN_IDS[VISION_START], *[TOKEN_IDS[IMAGE]] * num_cells, TOKEN_IDS[VISION_END]]
    asked = rng.permuted(np.tile(np.arange(num_cells), (num_images, 1)), axis=1)[:, :num_questions]
    words = np.array([[TOKEN_IDS[word] for word in template.split()[:-1]] for template in QUESTION_TEMPLATES])
    templates = words[rng.integers(0, len(QUESTION_TEMPLATES), size=asked.shape)]
    keys = FIRST_KEY_ID + NUM_KEYS * batch.domains[:, None] + np.take_along_axis(batch.keys, asked, axis=1)
    answers = FIRST_DIGIT_ID + np.take_along_axis(batch.digits, asked[:, :, None], axis=1)
    blocks = np.concatenate([templates, keys[:, :, None], answers], axis=-1).reshape(num_images, -1)
    ends = np.full((num_images, num_questions, 1), TOKEN_IDS[END])
    first_rows = len(prefix) + np.arange(num_questions) * BLOCK_TOKENS + NUM_QUESTION_TOKENS - 1
    return PackedQuestions(
        input_ids=torch.from_numpy(np.concatenate([np.tile(prefix, (num_images, 1)), blocks], axis=1)),
        targets=torch.from_numpy(np.concatenate([answers, ends], axis=-1)),
        target_rows=torch.from_numpy(first_rows[:, None] + np.arange(3)),
    )


def block_mask(*, num_cells: int, num_questions: int) -> Bool[Tensor, "query key"]:
    """True where a row may look: causal, and no block sees another block."""
    num_image = NUM_PREFIX_TOKENS + num_cells + 1
    num_tokens = num_image + num_questions * BLOCK_TOKENS
    block = torch.arange(num_tokens).sub(num_image).div(BLOCK_TOKENS, rounding_mode="floor")
    block[:num_image] = -1
    shared = (block[None, :] == -1) | (block[None, :] == block[:, None])
    return shared & torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril()


def additive_mask(allowed: Bool[Tensor, "query key"]) -> Float[Tensor, "1 1 query key"]:
    """The mask as eager attention adds it."""
    return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)[None, None]


def packed_positions(*, grid_side: int, num_questions: int) -> Int[Tensor, "3 1 token"]:
    """M-RoPE positions (time, row, column): every block starts one past the image's end, as in a single prompt."""
    rows, columns = torch.meshgrid(torch.arange(grid_side), torch.arange(grid_side), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns]).reshape(3, -1) + NUM_PREFIX_TOKENS
    after_image = NUM_PREFIX_TOKENS + grid_side
    block = torch.arange(BLOCK_TOKENS) + after_image + 1
    text = torch.cat([torch.tensor([after_image]), block.repeat(num_questions)])
    parts = [torch.arange(NUM_PREFIX_TOKENS).expand(3, -1), image, text.expand(3, -1)]
    return torch.cat(parts, dim=1)[:, None]
