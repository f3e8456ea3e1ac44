"""A context once, and several continuations of it side by side in one forward, each blind to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from rampipe.attention.interface import implementations, masked_kernel
from rampipe.attention.split_cache import PreallocatedLayer

MASKED = ("sdpa", "eager")
"""Implementations that take a mask of their caller; flash kernels know only causal ones."""


class _PrefixLayer(PreallocatedLayer):
    """Keys of the context, and behind them those of the continuations."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """What the new queries may see: for the context itself, the states as they came."""
        is_first = not self.is_initialized
        found = super().update(key_states, value_states)
        return (key_states, value_states) if is_first else found

    def spread(self, sequences: Int[Tensor, " row"], capacity_tokens: int) -> _PrefixLayer:
        """See `PrefixCache.spread`."""
        copy = _PrefixLayer(capacity_tokens)
        held = [side[:, :, : self.num_tokens].index_select(0, sequences.to(side.device)) for side in self.tensors()]
        copy.update(*held)
        return copy


class PrefixCache(Cache):
    """One layer of keys and values per decoder layer that has its own: the last ones may use others'.

    capacity_tokens: of the context and all its continuations.
    """

    layers: Sequence[Any]

    def __init__(self, config: PreTrainedConfig, *, capacity_tokens: int) -> None:
        num_layers = config.num_hidden_layers - (getattr(config, "num_kv_shared_layers", None) or 0)
        super().__init__(layers=[_PrefixLayer(capacity_tokens) for _ in range(num_layers)])

    def spread(self, sequences: Int[Tensor, " row"], *, capacity_tokens: int) -> PrefixCache:
        """A copy with a row for each of these sequences, and room for as many tokens."""
        copy = object.__new__(PrefixCache)
        Cache.__init__(copy, layers=[layer.spread(sequences, capacity_tokens) for layer in self.layers])
        return copy


def can_continue(model: PreTrainedModel) -> bool:
    """Whether continuations can stand side by side: every layer is softmax attention under a mask that we can write.

    Within `masked_kernel`, where the decoder runs on a flash kernel.
    """
    with masked_kernel(model):
        names = implementations(model.get_decoder())
    return _layer_kinds(model) <= {"full_attention", "sliding_attention"} and names <= set(MASKED)


def continuation_mask(
    model: PreTrainedModel,
    *,
    is_token: Bool[Tensor, "batch key"],
    segment: Int[Tensor, "batch query"],
    position: Int[Tensor, "batch key"],
) -> Tensor | dict[str, Tensor]:
    """`attention_mask` of a forward over continuations: each row sees its context, and its own segment up to itself.

    is_token: false at padding, of the context's keys and the new ones behind them. segment: which continuation each new
    token belongs to; -1 at padding. position: of each key in its own sequence, for layers with a window.
    Additive, in the model's dtype; by kind of layer where the model has several.
    """
    num_new = segment.shape[1]
    num_context = is_token.shape[1] - num_new
    causal = torch.ones(num_new, num_new, dtype=torch.bool, device=segment.device).tril()
    own = (segment[:, :, None] == segment[:, None, :]) & causal
    visible = torch.cat([is_token[:, None, :num_context].expand(-1, num_new, -1), own], dim=2)
    kinds = _layer_kinds(model)
    masks = {kind: _additive(model, visible) for kind in kinds if kind == "full_attention"}
    if "sliding_attention" in kinds:
        window = model.config.get_text_config(decoder=True).sliding_window
        distance = position[:, num_context:, None] - position[:, None, :]
        masks["sliding_attention"] = _additive(model, visible & ((distance < window) | (segment[:, :, None] < 0)))
    return masks if len(masks) > 1 else next(iter(masks.values()))


def _additive(model: PreTrainedModel, visible: Bool[Tensor, "batch query key"]) -> Float[Tensor, "batch 1 query key"]:
    mask = torch.zeros(visible.shape, dtype=model.dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(model.dtype).min)[:, None]


def _layer_kinds(model: PreTrainedModel) -> set[str]:
    config = model.config.get_text_config(decoder=True)
    found: Sequence[str] | None = getattr(config, "layer_types", None)
    if found:
        return set(found)
    return {"full_attention" if getattr(config, "sliding_window", None) is None else "sliding_attention"}
