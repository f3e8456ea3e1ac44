"""Attention of new tokens over a SplitLayer: full kv_heads read every key, the others their ring and kept keys."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from rampipe.attention.split_cache import SplitLayer
from rampipe.errors import ModelError

MAX_UNPACKED_GROUP = 2
"""Query heads of a kv_head up to which a CPU in half precision is faster with each as a head of its own than as rows of
one product, by 15 to 35 %; from 3 heads on packing wins, and in float32 always."""


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
    return rows[0][:, None] if len(rows) == 1 else torch.stack(rows, dim=1)


def _attend_row(
    layer: SplitLayer,
    query: Float[Tensor, "batch head dim"],
    *,
    position: int,
    scaling: float,
    mask: Bool[Tensor, "batch key"] | None,
) -> Float[Tensor, "batch head value_dim"]:
    grouped = query.unflatten(1, (layer.heads.shape.num_kv_heads, -1))
    parts: list[Tensor] = []
    if layer.full_kv:
        key, value = (side[:, :, : position + 1] for side in layer.full)
        rows = grouped[:, layer.full_index] if layer.near_kv else grouped
        parts.append(_attend(rows, key, value, scaling=scaling, mask=_full_mask(layer, position, mask)))
    if layer.near_kv:
        num_slots, visible = _near_visible(layer, position, mask)
        key, value = (side[:, :, :num_slots] for side in layer.near)
        rows = grouped[:, layer.near_index] if layer.full_kv else grouped
        parts.append(_attend(rows, key, value, scaling=scaling, mask=visible))
    if len(parts) == 1:
        return parts[0].flatten(1, 2)
    output = grouped.new_empty(*grouped.shape[:3], layer.full[1].shape[3])
    output[:, layer.full_index], output[:, layer.near_index] = parts
    return output.flatten(1, 2)


def _attend(
    rows: Float[Tensor, "batch kv_head group dim"], key: Tensor, value: Tensor, *, scaling: float, mask: Tensor | None
) -> Float[Tensor, "batch kv_head group value_dim"]:
    """Attention of the query heads of each kv_head. mask: `[batch, 1 or kv_head, 1 or group, key]`."""
    group_size = rows.shape[2]
    is_half = rows.dtype in (torch.bfloat16, torch.float16)
    if rows.device.type != "cpu" or not is_half or group_size > MAX_UNPACKED_GROUP:
        return functional.scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scaling)
    heads = rows.flatten(1, 2)[:, :, None]
    if mask is not None and mask.shape[1:3] != (1, 1):
        mask = mask.flatten(1, 2)[:, :, None]
    output = functional.scaled_dot_product_attention(
        heads, key, value, attn_mask=mask, scale=scaling, enable_gqa=group_size > 1
    )
    return output.unflatten(1, (-1, group_size))[:, :, :, 0]


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


def _full_mask(layer: SplitLayer, position: int, mask: Tensor | None) -> Tensor | None:
    """What hides keys from the heads of full kv_heads, `[batch, kv_head, head of group, key]`; None for nothing."""
    bias = None if layer.hidden is None else layer.hidden.row(position, layer.kept, dtype=layer.dtype)
    if bias is None:
        return None if mask is None else mask[:, None, None]
    if mask is None:
        return bias
    return bias.masked_fill(~mask[:, None, None], torch.finfo(bias.dtype).min)
