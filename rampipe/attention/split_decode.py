"""Attention of new tokens over a SplitLayer: full kv_heads read every key, the others their ring and kept keys."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from rampipe.attention.split_cache import SplitLayer
from rampipe.errors import ModelError


def decode_attention(
    layer: SplitLayer,
    query: Float[Tensor, "batch head query dim"],
    *,
    scaling: float,
    mask: Tensor | None,
) -> Float[Tensor, "batch query head value_dim"]:
    """Store the incoming states and attend to them, one token after the other.

    mask: boolean `[batch, 1, query, key]` over every token so far, dropped ones too.
    Raises ModelError for a mask that is not boolean or differs between heads.
    """
    if mask is not None and (mask.dtype != torch.bool or mask.shape[1] != 1):
        raise ModelError(
            f"decoding with a mask of type {mask.dtype} and shape {tuple(mask.shape)}; allowed: boolean, one for all "
            "heads. Pass a 2-D attention_mask, or decode without the split cache."
        )
    states = layer.take_incoming()
    first = layer.num_tokens - query.shape[2]
    rows: list[Tensor] = []
    for row in range(query.shape[2]):
        new = slice(row, row + 1)
        layer.store((states[0][:, :, new], states[1][:, :, new]), position=first + row)
        row_mask = None if mask is None else mask[:, 0, row, : first + row + 1]
        rows.append(_attend_row(layer, query[:, :, row], position=first + row, scaling=scaling, mask=row_mask))
    return torch.stack(rows, dim=1)


def _attend_row(
    layer: SplitLayer,
    query: Float[Tensor, "batch head dim"],
    *,
    position: int,
    scaling: float,
    mask: Bool[Tensor, "batch key"] | None,
) -> Float[Tensor, "batch head value_dim"]:
    # The query heads of one kv_head become its rows: its keys are read once.
    grouped = query.unflatten(1, (layer.heads.shape.num_kv_heads, -1))
    output = grouped.new_empty(*grouped.shape[:3], layer.full[1].shape[3])
    if layer.full_kv:
        key, value = (side[:, :, : position + 1] for side in layer.full)
        visible = _full_visible(layer, position, mask)
        output[:, list(layer.full_kv)] = functional.scaled_dot_product_attention(
            grouped[:, list(layer.full_kv)], key, value, attn_mask=visible, scale=scaling
        )
    if layer.near_kv:
        num_slots, visible = _near_visible(layer, position, mask)
        key, value = (side[:, :, :num_slots] for side in layer.near)
        output[:, list(layer.near_kv)] = functional.scaled_dot_product_attention(
            grouped[:, list(layer.near_kv)], key, value, attn_mask=visible, scale=scaling
        )
    return output.flatten(1, 2)


def _near_visible(layer: SplitLayer, position: int, mask: Tensor | None) -> tuple[int, Tensor | None]:
    """How many slots the row needs, and which of them it sees where that is not all, `[batch, 1, 1, slot]`."""
    num_ring = min(position + 1, layer.window)
    left = position - layer.window + 1
    counts = [kept.num_before(left) for kept in layer.kept]
    num_slots = num_ring + max(counts) if num_ring == layer.window else num_ring
    if mask is None and len(set(counts)) == 1:
        return num_slots, None
    slots = torch.arange(num_slots, device=layer.device)
    visible = slots < num_ring + torch.tensor(counts, device=layer.device)[:, None]
    if mask is not None:
        token = torch.zeros(len(counts), num_slots, dtype=torch.long, device=layer.device)
        token[:, :num_ring] = position - (position - slots[:num_ring]) % layer.window
        for batch, (kept, count) in enumerate(zip(layer.kept, counts, strict=True)):
            token[batch, num_ring : num_ring + count] = kept.index[:count]
        visible = visible & mask.expand(len(counts), -1).gather(1, token)
    return num_slots, visible[:, None, None]


def _full_visible(layer: SplitLayer, position: int, mask: Tensor | None) -> Tensor | None:
    """What the heads of full kv_heads see, `[batch, kv_head, head of group, key]`; None where it is everything."""
    mixed = [head for head in layer.heads.restricted if head // layer.heads.shape.group_size in layer.full_kv]
    if not mixed or position < layer.window:
        return None if mask is None else mask[:, None, None]
    near = torch.zeros(len(layer.kept), position + 1, dtype=torch.bool, device=layer.device)
    near[:, position - layer.window + 1 :] = True
    for batch, kept in enumerate(layer.kept):
        near[batch, kept.index[: kept.num_before(position + 1)]] = True
    is_mixed = torch.zeros(layer.heads.shape.num_heads, dtype=torch.bool)
    is_mixed[mixed] = True
    is_mixed = is_mixed.unflatten(0, (layer.heads.shape.num_kv_heads, -1))[list(layer.full_kv)].to(layer.device)
    visible = near[:, None, None] | ~is_mixed[None, :, :, None]
    return visible if mask is None else visible & mask[:, None, None]
