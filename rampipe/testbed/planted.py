"""A checkpoint whose retrieval heads are known by construction: the oracle of the ranking tests.

The weights are random, but one residual dimension, MARKER_DIMENSION, is reserved: the vision tower writes it for cells
painted in MARKER_RGB, nothing else writes or reads it, except the keys of the planted heads. Their queries are a
constant from `q_proj.bias`, on the slowest rotating pair of RoPE, so they look at the marked cell from every row and at
any distance. Query heads that share a kv_head with a planted head have no query along that pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn
from transformers import Qwen2VLForConditionalGeneration
from transformers.image_utils import OPENAI_CLIP_STD
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel, Qwen2VLAttention

from rampipe.errors import ConfigError
from rampipe.testbed.architecture import HIDDEN, NUM_HEADS, NUM_KV_HEADS, build_model
from rampipe.testbed.checkpoint import save_checkpoint
from rampipe.testbed.domains import DOMAINS, NUM_KEYS, QUESTION_TEMPLATES
from rampipe.testbed.haystack import CELL_PX
from rampipe.testbed.parts import decoder_layers, vision_blocks, vision_tower, word_embeddings
from rampipe.testbed.samples import cell_box, encode_png
from rampipe.types import ContextPart, Evidence, HeadId, Sample, StoredImage

NUM_LAYERS = 4
HEAD_DIM = HIDDEN // NUM_HEADS
MARKER_DIMENSION = 0
MARKER_RGB = (255, 0, 255)
SLOW_PAIR = (HEAD_DIM // 2 - 1, HEAD_DIM - 1)
"""Dimensions of a head that RoPE rotates slowest, 5e-4 rad a position: far below a turn over any prompt here."""
QUIET_STD_FRAC = 0.3
"""Scale of the other heads' queries and keys: their scores stay within about 0.1, so they are nearly uniform."""
MARKER_GAIN = 10.0
KEY_GAIN = 1.0
QUERY_BIAS = 1.5
GRID_SIDE = 6


def write_planted(folder: Path | str, *, heads: Sequence[HeadId], seed: int = 0) -> None:
    """Writes the checkpoint folder, of 4 layers with 16 heads, tokenizer and processor as in the trained one.

    heads: the heads that shall look at the marked cell; empty for the control that plants none.
    Raises ConfigError for a head that the model does not have.
    """
    for head in heads:
        if not (0 <= head.layer < NUM_LAYERS and 0 <= head.head < NUM_HEADS):
            raise ConfigError(
                f"planted head {head}: the model has layers 0 to {NUM_LAYERS - 1} and heads 0 to {NUM_HEADS - 1}. "
                "Choose one of these."
            )
    model = build_model(seed=seed, num_layers=NUM_LAYERS)
    with torch.no_grad():
        expose_marker(vision_tower(model))
        reserve_marker_dimension(model)
        for layer_index, layer in enumerate(decoder_layers(model)):
            planted = [head.head for head in heads if head.layer == layer_index]
            plant_heads(layer.self_attn, planted)
    save_checkpoint(model, Path(folder))


def expose_marker(visual: Qwen2VisionTransformerPretrainedModel) -> None:
    """Makes the tower write MARKER_DIMENSION for marked cells only: colour contrast, summed, then a threshold."""
    for block in vision_blocks(visual):
        block.attn.proj.weight.zero_()
        block.mlp.fc2.weight.zero_()
    colour, merger = visual.patch_embed.proj.weight, visual.merger.mlp
    contrast = torch.tensor([1.0, -2.0, 1.0]) * torch.tensor(OPENAI_CLIP_STD)
    colour[0] = MARKER_GAIN * contrast[:, None, None, None].expand_as(colour[0]) / colour[0, 0].numel()
    embed_dim = visual.config.embed_dim
    to_hidden, to_output = (cast("nn.Linear", merger[index]) for index in (0, 2))
    to_hidden.weight[0].zero_()
    to_hidden.weight[0, ::embed_dim] = 1.0
    to_hidden.bias[0] = -10.0
    to_output.weight[:, 0].zero_()
    to_output.weight[MARKER_DIMENSION].zero_()
    to_output.weight[MARKER_DIMENSION, 0] = 1.0


def reserve_marker_dimension(model: Qwen2VLForConditionalGeneration) -> None:
    """Cuts every reader and writer of MARKER_DIMENSION in the language model."""
    word_embeddings(model)[:, MARKER_DIMENSION] = 0.0
    for layer in decoder_layers(model):
        attention, mlp = layer.self_attn, layer.mlp
        for reader in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            reader.weight[:, MARKER_DIMENSION] = 0.0
        for writer in (attention.o_proj, mlp.down_proj):
            writer.weight[MARKER_DIMENSION] = 0.0


def plant_heads(attention: Qwen2VLAttention, planted: Sequence[int]) -> None:
    """Quiets all heads of a layer, then lets the planted ones look at the marker."""
    attention.q_proj.weight.mul_(QUIET_STD_FRAC)
    attention.k_proj.weight.mul_(QUIET_STD_FRAC)
    group_size = NUM_HEADS // NUM_KV_HEADS
    for head in planted:
        kv_head = head // group_size
        for sibling in range(kv_head * group_size, (kv_head + 1) * group_size):
            for dimension in SLOW_PAIR:
                attention.q_proj.weight[sibling * HEAD_DIM + dimension] = 0.0
        for dimension in SLOW_PAIR:
            attention.k_proj.weight[kv_head * HEAD_DIM + dimension] = 0.0
        attention.k_proj.weight[kv_head * HEAD_DIM + SLOW_PAIR[0], MARKER_DIMENSION] = KEY_GAIN
    for head in planted:
        attention.q_proj.bias[head * HEAD_DIM + SLOW_PAIR[0]] = QUERY_BIAS


def planted_samples(*, count: int, seed: int, shuffled: bool = False) -> Iterator[Sample]:
    """Yields 6 x 6 grids of grey cells with one marked cell, which is the evidence.

    shuffled: the evidence is another cell than the marked one; images and questions stay the same.
    """
    num_cells = GRID_SIDE**2
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        marked = int(rng.integers(num_cells))
        other = (marked + 1 + int(rng.integers(num_cells - 1))) % num_cells
        grey = rng.integers(60, 200, size=(GRID_SIDE, GRID_SIDE, 1, 1, 1))
        texture = rng.integers(-30, 31, size=(GRID_SIDE, GRID_SIDE, CELL_PX, CELL_PX, 1))
        cells = np.broadcast_to(grey + texture, (GRID_SIDE, GRID_SIDE, CELL_PX, CELL_PX, 3)).copy()
        cells[divmod(marked, GRID_SIDE)] = MARKER_RGB
        pixels = cells.swapaxes(1, 2).reshape(GRID_SIDE * CELL_PX, GRID_SIDE * CELL_PX, 3).astype(np.uint8)
        word = DOMAINS[0].key_words[int(rng.integers(NUM_KEYS))]
        template = QUESTION_TEMPLATES[int(rng.integers(len(QUESTION_TEMPLATES)))]
        evidence = cell_box(other if shuffled else marked, num_columns=GRID_SIDE)
        yield Sample(
            sample_id=f"planted-{'shuffled' if shuffled else 'true'}-{seed}-{index:06d}",
            domain="planted",
            context=(ContextPart(kind="image", image=0),),
            images=(StoredImage(bytes=encode_png(pixels), path=None),),
            question=template.format(key=word),
            answers=("0 0",),
            choices=None,
            evidence=(Evidence(kind="box", image=0, box=evidence),),
        )
