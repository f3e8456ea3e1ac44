"""A transformers cache that drops what restricted kv_heads will never see again, and a preallocated dense one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from rampipe.attention.hidden_bias import HiddenBias
from rampipe.attention.hybrid_plan import HeadShape, HybridPlan, LayerHeads, num_near_slots
from rampipe.attention.kept_keys import KeptKeys
from rampipe.errors import ModelError

States = Float[Tensor, "batch kv_head token dim"]


class _CountedLayer(CacheLayerMixin):
    """A cache layer with room for a known number of tokens."""

    is_sliding = False

    def __init__(self, capacity_tokens: int) -> None:
        super().__init__()
        self.capacity_tokens = capacity_tokens
        self.num_tokens = 0

    def count(self, num_new: int) -> None:
        """Raises ModelError when the new tokens do not fit."""
        if self.num_tokens + num_new > self.capacity_tokens:
            raise ModelError(
                f"cache: {self.num_tokens} + {num_new} tokens; allowed: {self.capacity_tokens}. Create it with "
                "capacity_tokens = tokens of the prompt + max_new_tokens."
            )
        self.num_tokens += num_new

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Masks cover every token so far, dropped ones too: positions stay what they are."""
        return self.num_tokens + query_length, 0

    def get_seq_length(self) -> int:
        return self.num_tokens

    def get_max_length(self) -> int:
        return self.capacity_tokens

    def crop(self, tokens_to_remove: int) -> None:
        """Raises ModelError: what the window has dropped does not come back."""
        if tokens_to_remove:
            raise ModelError(
                f"cache: crop of {tokens_to_remove} tokens; allowed: none. Generate without an assistant model."
            )


class PreallocatedLayer(_CountedLayer):
    """All keys of a layer, in place."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate all room."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = _room(key_states, key_states.shape[1], self.capacity_tokens)
        self.values = _room(value_states, value_states.shape[1], self.capacity_tokens)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Views of all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new = slice(self.num_tokens, self.num_tokens + key_states.shape[2])
        self.count(key_states.shape[2])
        key, value = self.tensors()
        key[:, :, new] = key_states
        value[:, :, new] = value_states
        return key[:, :, : self.num_tokens], value[:, :, : self.num_tokens]

    def tensors(self) -> list[Tensor]:
        """Keys and values as allocated; nothing before the first token."""
        return [side for side in (self.keys, self.values) if side is not None]


class SplitLayer(_CountedLayer):
    """All keys of full kv_heads; of the others a ring of the window, then the kept keys in their order.

    Keys carry their rotary position, so their order does not matter. A kept key is in the ring first; once the window
    has left it, its copy behind the ring counts, so what a row sees is one slice. `update` hands itself to the
    attention function, which knows the padding and with it what to keep.
    """

    def __init__(self, heads: LayerHeads, *, window: int, capacity_tokens: int) -> None:
        super().__init__(capacity_tokens)
        self.heads = heads
        self.window = window
        self.incoming: tuple[Tensor, Tensor] | None = None
        self.kept: list[KeptKeys] = []
        self.is_whole = window >= capacity_tokens or not heads.restricted
        """Nothing can ever be hidden."""
        self.full_kv: tuple[int, ...] = ()
        self.near_kv: tuple[int, ...] = ()
        self.full_index: slice | Tensor = slice(0)
        self.near_index: slice | Tensor = slice(0)
        self.full: list[Tensor] = []
        self.near: list[Tensor] = []
        self.hidden: HiddenBias | None = None
        """What mixed groups hide: restricted heads whose kv_head is held in full."""

    @property
    def shape(self) -> torch.Size:
        """Raises ModelError: only the hybrid attention of the context that made the cache can read it."""
        raise ModelError(
            "cache of hybrid attention: read by an ordinary attention function. Use it within the "
            "`with hybrid_attention(...)` that made it, with the same model."
        )

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate all room."""
        self.dtype, self.device = key_states.dtype, key_states.device
        num_near = self.window + max(len(kept.positions) for kept in self.kept)
        self.full_kv, self.near_kv = self.heads.full_kv, self.heads.restricted_kv
        if self.is_whole or num_near_slots(num_near, self.capacity_tokens) == self.capacity_tokens:
            self.full_kv, self.near_kv = tuple(range(self.heads.shape.num_kv_heads)), ()
        self.hidden = self._hidden_bias()
        self.full_index, self.near_index = (_index(heads, self.device) for heads in (self.full_kv, self.near_kv))
        for states in (key_states, value_states):
            self.full.append(_room(states, len(self.full_kv), self.capacity_tokens))
            self.near.append(_room(states, len(self.near_kv), num_near if self.near_kv else 0))
        self.is_initialized = True

    def _hidden_bias(self) -> HiddenBias | None:
        shape = self.heads.shape
        is_restricted = torch.zeros(shape.num_heads, dtype=torch.bool)
        is_restricted[list(self.heads.restricted)] = True
        is_mixed = is_restricted.view(shape.num_kv_heads, -1)[list(self.full_kv)].to(self.device)
        if self.is_whole or not bool(is_mixed.any()):
            return None
        return HiddenBias(is_mixed, window=self.window, capacity_tokens=self.capacity_tokens)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Take in new states, to be stored by `store`."""
        self.count(key_states.shape[2])
        self.incoming = (key_states, value_states)
        return self, self

    def store(self, states: tuple[Tensor, Tensor], *, position: int) -> None:
        """Keep what will be seen again of `states`, whose first token is at `position`."""
        if not self.is_initialized:
            self.lazy_initialization(*states)
        stop = position + states[0].shape[2]
        for side, full, near in zip(states, self.full, self.near, strict=True):
            full[:, :, position:stop] = side[:, self.full_index] if self.near_kv else side
            if self.near_kv:
                chosen = side[:, self.near_index]
                self._store_recent(near, chosen, position)
                self._store_kept(near, chosen, position)

    def _store_recent(self, near: Tensor, chosen: States, position: int) -> None:
        """Token t at slot t % window: at most two runs of slots."""
        num_new = min(chosen.shape[2], self.window)
        start = (position + chosen.shape[2] - num_new) % self.window
        num_first = min(num_new, self.window - start)
        recent = chosen[:, :, chosen.shape[2] - num_new :]
        near[:, :, start : start + num_first] = recent[:, :, :num_first]
        if num_first < num_new:
            near[:, :, : num_new - num_first] = recent[:, :, num_first:]

    def _store_kept(self, near: Tensor, chosen: States, position: int) -> None:
        for batch, kept in enumerate(self.kept):
            first, last = kept.num_before(position), kept.num_before(position + chosen.shape[2])
            if last > first:
                at = kept.index[first:last] - position
                near[batch, :, self.window + first : self.window + last] = chosen[batch].index_select(1, at)

    def tensors(self) -> list[Tensor]:
        """Keys and values as allocated."""
        return self.full + self.near

    def reset(self) -> None:
        """Forget every token and the memory."""
        self.full, self.near, self.kept, self.incoming, self.hidden = [], [], [], None, None
        self.num_tokens, self.is_initialized = 0, False

    def take_incoming(self) -> tuple[Tensor, Tensor]:
        """The states of the last `update`, once."""
        if self.incoming is None:
            raise ModelError("cache of hybrid attention: attention without new tokens. Layers must not share a cache.")
        incoming, self.incoming = self.incoming, None
        return incoming

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Order the sequences as beam search wants them."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence."""
        self.batch_select_indices(torch.arange(len(self.kept)).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences, in this order."""
        indices = indices.to(self.device)
        self.full = [side.index_select(0, indices) for side in self.full]
        self.near = [side.index_select(0, indices) for side in self.near]
        self.kept = [self.kept[index] for index in indices.tolist()]
        if self.hidden is not None:
            self.hidden.forget()


class PreallocatedCache(Cache):
    """A dense cache that never copies itself: the honest baseline for decoding (DynamicCache copies every step)."""

    layers: Sequence[Any]

    def __init__(self, config: PreTrainedConfig, *, capacity_tokens: int) -> None:
        super().__init__(layers=_replaced(config, lambda _: PreallocatedLayer(capacity_tokens)))


class SplitCache(Cache):
    """The cache of one `with hybrid_attention(...)`. capacity_tokens: of the prompt and all new ones."""

    layers: Sequence[Any]

    def __init__(self, config: PreTrainedConfig, plan: HybridPlan, shape: HeadShape, *, capacity_tokens: int) -> None:
        def split(layer: int) -> SplitLayer:
            return SplitLayer(plan.layer(layer, shape), window=plan.window_tokens, capacity_tokens=capacity_tokens)

        super().__init__(layers=_replaced(config, split))


def num_cache_bytes(cache: PreallocatedCache | SplitCache) -> int:
    """Bytes of keys and values that the cache has allocated."""
    tensors = [tensor for layer in cache.layers if hasattr(layer, "tensors") for tensor in layer.tensors()]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def _replaced(config: PreTrainedConfig, make: Any) -> list[Any]:
    """The layers that the library would take, ours in place of those that hold every key."""
    layers = DynamicCache(config=config).layers
    return [make(index) if type(layer) is DynamicLayer else layer for index, layer in enumerate(layers)]


def _index(heads: tuple[int, ...], device: torch.device) -> slice | Tensor:
    """A slice where it can be: views cost nothing, and a decoding step of a short prompt is made of small costs."""
    first, stop = (heads[0], heads[-1] + 1) if heads else (0, 0)
    if heads == tuple(range(first, stop)):
        return slice(first, stop)
    return torch.tensor(heads, dtype=torch.long, device=device)


def _room(like: States, num_kv_heads: int, num_tokens: int) -> Tensor:
    return like.new_zeros(like.shape[0], num_kv_heads, num_tokens, like.shape[3])
