"""Attention over blocks of rows: each block computes scores only for the keys that one of its rows may see.

For training alone. With one block it is eager attention; with a block for each image, cost grows with the context's
length, not its square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "testbed_blocks"
LARGE_ROWS = 1024
"""Blocks of more rows go through torch's fused attention: the scores of 16 heads, kept, would take gigabytes."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that are computed together. mask: added to their scores."""

    rows: slice
    keys: Int[Tensor, " key"]
    mask: Float[Tensor, "row key"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Takes the place of the attention mask. `seen` receives, layer by layer, how the last block's rows looked."""

    blocks: tuple[Block, ...]
    seen: list[Float[Tensor, "batch head row key"]] = field(default_factory=list)


def make_plan(allowed: Bool[Tensor, "token token"], borders: Sequence[int]) -> Plan:
    """Blocks between borders (first row of each block, ascending from 0), from which row may see which key."""
    stops = [*borders[1:], len(allowed)]
    blocks: list[Block] = []
    for start, stop in zip(borders, stops, strict=True):
        rows = allowed[start:stop]
        keys = rows.any(dim=0).nonzero()[:, 0]
        mask = torch.zeros(len(rows), len(keys)).masked_fill(~rows[:, keys], torch.finfo(torch.float32).min)
        blocks.append(Block(slice(start, stop), keys, mask))
    return Plan(tuple(blocks))


def block_attention(
    module: nn.Module,
    query: Float[Tensor, "batch head token width"],
    key: Float[Tensor, "batch kv_head token width"],
    value: Float[Tensor, "batch kv_head token width"],
    attention_mask: Plan,
    scaling: float,
    **_: object,
) -> tuple[Float[Tensor, "batch token head width"], None]:
    """An attention function as transformers calls it. The heads of a kv_head are rows of one product."""
    group = query.shape[1] // key.shape[1]
    outputs: list[Tensor] = []
    for block in attention_mask.blocks:
        if len(block.mask) > LARGE_ROWS and block is not attention_mask.blocks[-1]:
            outputs.append(fused(block, query[:, :, block.rows], key, value, scaling=scaling))
            continue
        rows = query[:, :, block.rows].unflatten(1, (-1, group)) * scaling
        keys, values = (states.index_select(2, block.keys)[:, :, None] for states in (key, value))
        scores = (rows.flatten(2, 3) @ keys[:, :, 0].transpose(2, 3)).view(*rows.shape[:-1], -1)
        weights = (scores.float() + block.mask).softmax(dim=-1).to(value.dtype)
        mixed = weights.flatten(2, 3) @ values[:, :, 0]
        outputs.append(mixed.view_as(rows).flatten(1, 2))
        if block is attention_mask.blocks[-1]:
            attention_mask.seen.append(weights.flatten(1, 2))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def fused(
    block: Block,
    rows: Float[Tensor, "batch head row width"],
    key: Float[Tensor, "batch kv_head token width"],
    value: Float[Tensor, "batch kv_head token width"],
    *,
    scaling: float,
) -> Float[Tensor, "batch head row width"]:
    """What the block's rows read, without the scores."""
    group = rows.shape[1] // key.shape[1]
    keys, values = (states.index_select(2, block.keys).repeat_interleave(group, dim=1) for states in (key, value))
    mixed = functional.scaled_dot_product_attention(
        rows, keys, values, attn_mask=block.mask.to(rows.dtype), scale=scaling
    )
    return mixed.to(value.dtype)


ALL_ATTENTION_FUNCTIONS.register(NAME, block_attention)
