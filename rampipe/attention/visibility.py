"""Which keys a query row may see, read from the mask that the layer handed to its kernel."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rampipe.attention.call import AttentionCall
from rampipe.errors import ModelError

HIDDEN = -1e30
"""Logit of a key that a row may not see: finite, so that its weight times its logit is 0, not NaN."""


def row_bias(
    call: AttentionCall, batch: int, *, position: Int[Tensor, " row"], key: Int[Tensor, " key"]
) -> Float[Tensor, "head_or_one row key"]:
    """What is added to the logits of the given rows and keys: 0 or the mask's bias where visible, HIDDEN elsewhere.

    position: of the rows, in the queries of this call. key: index into the keys of this call.
    A 4-D mask is the whole truth. Otherwise the kernel's own rules hold: causal, the window, and 2-D padding; the last
    query is aligned with the last key, as with a cached prefix.
    Raises ModelError when the mask has another number of dimensions.
    """
    if call.mask is not None and call.mask.dim() == 4:
        return _gathered(call.mask, batch, position=position, key=key)
    absolute = position + (call.key.shape[2] - call.query.shape[2])
    distance = absolute[:, None] - key[None, :]
    visible = distance >= 0 if call.causal else torch.ones_like(distance, dtype=torch.bool)
    if call.sliding_window is not None:
        visible &= distance.abs() < call.sliding_window
    if call.mask is not None:
        if call.mask.dim() != 2:
            raise ModelError(
                f"attention mask of shape {tuple(call.mask.shape)}; allowed: none, 2-D padding or 4-D. Use another "
                "attn_implementation."
            )
        visible &= call.mask[batch, -call.key.shape[2] :][key].bool()[None, :]
    return _as_bias(visible)[None]


def _gathered(
    mask: Tensor, batch: int, *, position: Int[Tensor, " row"], key: Int[Tensor, " key"]
) -> Float[Tensor, "head_or_one row key"]:
    rows = mask[batch if mask.shape[0] > 1 else 0].index_select(1, position).index_select(2, key)
    if rows.dtype == torch.bool:
        return _as_bias(rows)
    # Half of the type's minimum: transformers writes the minimum itself, some models -inf.
    return rows.float().masked_fill(rows <= torch.finfo(rows.dtype).min / 2, HIDDEN)


def _as_bias(visible: Tensor) -> Tensor:
    return torch.zeros_like(visible, dtype=torch.float32).masked_fill_(~visible, HIDDEN)
