"""Hybrid attention: a few heads see everything, the others sinks, a recent window and text. Less work, less memory.

plan = HybridPlan(full_heads=frozenset(core_heads))
with hybrid_attention(model, plan, text_keys=text_keys) as hybrid:
    model.generate(**inputs, past_key_values=hybrid.new_cache(capacity_tokens=num_prompt + max_new_tokens))
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.heterogeneity.configuration_utils import AmbiguousGlobalPerLayerAttributeError
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention.call import AttentionCall, read_call
from rampipe.attention.dense_heads import dense_heads
from rampipe.attention.flex_prefill import FlexPrefill, flex_prefill
from rampipe.attention.hybrid_plan import HeadShape, HybridPlan, LayerHeads
from rampipe.attention.interface import AttentionFunction, installed, masked_kernel, refuse_unless_alone
from rampipe.attention.kept_keys import KeptKeys, first_real_keys, kept_keys, visible
from rampipe.attention.layers import ranges, softmax_layers
from rampipe.attention.split_cache import SplitCache, SplitLayer
from rampipe.attention.split_decode import decode_attention
from rampipe.attention.windowed import WindowRule, windowed_attention
from rampipe.errors import ConfigError, ModelError

MAX_OVERWRITTEN_FRAC = 0.2
"""Up to this share of full heads, windowing all heads and overwriting the full ones beats picking the windowed ones."""


class HybridAttention:
    """The function behind the registry's `sdpa` while one decoder is restricted; all other modules pass through."""

    is_observable = False

    def __init__(self, model: PreTrainedModel, plan: HybridPlan, text_keys: Tensor | None) -> None:
        self.implementation = "sdpa"
        self.plan = plan
        self.config = model.config.get_text_config(decoder=True)
        self.shape = head_shape(self.config)
        self.layers = frozenset(restrictable_layers(model))
        self.text_keys = None if text_keys is None else text_keys.bool().cpu()
        self.modules = frozenset(model.get_decoder().modules())
        self.dense: AttentionFunction = ALL_ATTENTION_FUNCTIONS["sdpa"]
        self.prior: AttentionFunction | None = self.dense
        self.flex = flex_prefill(model.device)
        self._kept: dict[tuple[torch.device, tuple[int, ...]], list[KeptKeys]] = {}

    def new_cache(self, *, capacity_tokens: int) -> SplitCache:
        """A cache for one batch, to be given to `generate` or to the model as `past_key_values`.

        capacity_tokens: of the padded prompt and all new tokens.
        """
        return SplitCache(self.config, self.plan, self.shape, capacity_tokens=capacity_tokens)

    def __call__(
        self, module: nn.Module, query: Tensor, key: Any, value: Any, attention_mask: Any = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Attention output `[batch, query, head, dim]` and no weights."""
        layer = getattr(module, "layer_idx", None)
        if module not in self.modules or layer not in self.layers:
            return self.dense(module, query, key, value, attention_mask, **kwargs)
        check_mask(attention_mask, num_queries=query.shape[2])
        num_queries, is_whole, keys = query.shape[2], False, key
        if isinstance(key, SplitLayer):
            is_first, is_whole = key.num_tokens == num_queries, key.is_whole
            if not (is_first or is_whole):
                scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
                return decode_attention(key, query, scaling=scaling, mask=attention_mask), None
            if is_first:
                key.kept = self._keys_kept(attention_mask, query)
            keys, value = _through(key, is_first=is_first)
        is_short_prompt = num_queries == keys.shape[2] < self.plan.dense_below_tokens
        if is_short_prompt or is_whole:
            return self.dense(module, query, keys, value, attention_mask, **kwargs)
        heads = self.plan.layer(layer, HeadShape(query.shape[1], self.shape.num_kv_heads))
        kept = self._keys_kept(attention_mask, query)
        rules = [WindowRule(self.plan.window_tokens, keys) for keys in kept]
        if not heads.restricted or not any(item.hides_something(keys.shape[2]) for item in rules):
            return self.dense(module, query, keys, value, attention_mask, **kwargs)
        call = read_call(module, "sdpa", query=query, key=keys, mask=attention_mask, arguments=kwargs)
        check_call(call, kwargs)
        return hybrid_heads(call, value, heads=heads, rules=rules, flex=self.flex), None

    def _keys_kept(self, mask: Tensor | None, query: Tensor) -> list[KeptKeys]:
        first = tuple(first_real_keys(mask, query.shape[0]))
        if (query.device, first) not in self._kept:
            kept = kept_keys(self.plan, self.text_keys, first_real=list(first), device=query.device)
            self._kept[query.device, first] = kept
        return self._kept[query.device, first]


def _through(cache: SplitLayer, *, is_first: bool) -> tuple[Tensor, Tensor]:
    """Store what came in; the keys and values of a prompt, or of everything where the layer holds everything."""
    incoming = cache.take_incoming()
    cache.store(incoming, position=cache.num_tokens - incoming[0].shape[2])
    if is_first:
        return incoming
    key, value = (side[:, :, : cache.num_tokens] for side in cache.full)
    return key, value


def head_shape(config: Any) -> HeadShape:
    """Heads of every layer. Raises ModelError where layers differ in them, or use keys of other layers."""
    if getattr(config, "num_kv_shared_layers", None):
        raise ModelError(
            f"hybrid attention of a {config.model_type}: {config.num_kv_shared_layers} layers use keys of others; "
            "needed: their own, which alone can be dropped. Keep all its heads full."
        )
    try:
        return HeadShape(config.num_attention_heads, config.num_key_value_heads)
    except AmbiguousGlobalPerLayerAttributeError:
        raise ModelError(
            f"hybrid attention of a {config.model_type}: layers differ in their number of kv_heads; "
            "needed: one number. Keep all its heads full."
        ) from None


def check_mask(mask: Tensor | None, *, num_queries: int) -> None:
    """Raises ModelError where a row of a prompt sees the key behind it, as in images that are read in both directions.

    A window of the past would cut such an image apart.
    """
    if mask is None or mask.dim() != 4 or num_queries == 1:
        return
    ahead = mask.diagonal(offset=mask.shape[-1] - num_queries + 1, dim1=-2, dim2=-1)
    if bool(visible(ahead).any()):
        raise ModelError(
            "hybrid attention: rows see keys behind them, as images of Gemma 3 do; needed: a causal mask, whose past a "
            "window can cut. Keep all its heads full."
        )


def check_call(call: AttentionCall, arguments: dict[str, Any]) -> None:
    """Raises ModelError for attention that is not causal, for dropout, and for keys that nobody sees yet."""
    if not call.causal:
        raise ModelError("hybrid attention of a layer that is not causal; allowed: decoders. Restrict no head of it.")
    if arguments.get("dropout"):
        raise ModelError(f"attention dropout is {arguments['dropout']}; allowed: 0. Call model.eval() first.")
    if call.mask is not None and not bool(visible(call.mask[:, :, -1, -1]).any()):
        raise ModelError(
            "hybrid attention: no sequence sees the last key, as with a static cache; positions would be wrong. Use "
            "the cache of hybrid_attention(...).new_cache, or a dynamic one."
        )


def hybrid_heads(
    call: AttentionCall,
    value: Tensor,
    *,
    heads: LayerHeads,
    rules: list[WindowRule],
    flex: FlexPrefill | None = None,
) -> Float[Tensor, "batch query head value_dim"]:
    """All heads of a layer. Windowing all of them and overwriting the full ones is the fastest while those are few."""
    overwrite = len(heads.full) <= MAX_OVERWRITTEN_FRAC * heads.shape.num_heads
    chosen = range(heads.shape.num_heads) if overwrite else heads.restricted
    output = restricted_heads(call, value, heads=heads if not overwrite else None, rules=rules, flex=flex)
    if not overwrite:
        whole = output.new_empty(*output.shape[:2], heads.shape.num_heads, output.shape[3])
        whole[:, :, list(chosen)] = output
        output = whole
    if heads.full:
        full = dense_heads(call.query, call.key, value, heads=heads.full, scaling=call.scaling, mask=call.mask)
        output[:, :, list(heads.full)] = full
    return output


def restricted_heads(
    call: AttentionCall,
    value: Tensor,
    *,
    heads: LayerHeads | None,
    rules: list[WindowRule],
    flex: FlexPrefill | None,
) -> Float[Tensor, "batch query chosen value_dim"]:
    """Attention under the rules of the restricted heads of `heads`, or of all heads where that is None."""
    query, key, mask = call.query, call.key, call.mask
    if heads is not None:
        index = torch.tensor(heads.restricted, device=query.device)
        kv_index = index // heads.shape.group_size
        query, key, value = query[:, index], key[:, kv_index], value[:, kv_index]
        mask = mask if mask is None or mask.shape[1] == 1 else mask[:, index]
    if flex is not None and 1 < query.shape[2] == key.shape[2]:
        output = flex.attend(query, key, value, rules=rules, scaling=call.scaling, mask=mask)
        if output is not None:
            return output
    if all(item.kept is rules[0].kept for item in rules):
        return windowed_attention(query, key, value, rule=rules[0], scaling=call.scaling, mask=mask)
    rows: list[Tensor] = []
    for batch, rule in enumerate(rules):
        one = slice(batch, batch + 1)
        own_mask = mask if mask is None or mask.shape[0] == 1 else mask[one]
        rows.append(
            windowed_attention(query[one], key[one], value[one], rule=rule, scaling=call.scaling, mask=own_mask)
        )
    return torch.cat(rows)


@contextmanager
def hybrid_attention(
    model: PreTrainedModel, plan: HybridPlan, *, text_keys: Bool[Tensor, "batch key"] | None
) -> Generator[HybridAttention]:
    """Restrict the decoder's heads in every forward of the context: prefill, decode, `generate`.

    text_keys: which keys of the (padded) prompt are text; needed where the plan keeps text. Keys after them, such as
    generated tokens, are seen through the window alone. Without the context's own cache the result is the same, and no
    memory is saved. Layers with a window of their own stay as they are: a full head of theirs sees that window. With
    nothing to hide, bit-identical to dense. A decoder on a flash kernel is on sdpa within, which knows the masks.
    Raises ConfigError for heads that the model lacks or text that is not named, ModelError for an eager decoder, for
    layers that share keys or differ in kv_heads, or when attention is observed or restricted already.
    """
    if plan.keep_text and text_keys is None:
        raise ConfigError(
            "hybrid attention: keep_text without text_keys. Pass which keys of the prompt are text, or set "
            "keep_text=False for a window that may lose the question."
        )
    with masked_kernel(model):
        refuse_unless_alone(model.get_decoder(), "hybrid attention")
        hybrid = HybridAttention(model, plan, text_keys)
        check_plan(plan, hybrid)
        with installed([hybrid]):
            yield hybrid


def check_plan(plan: HybridPlan, hybrid: HybridAttention) -> None:
    """Raises ConfigError when a full head is not a head of the model, ModelError when no layer can be restricted."""
    if not hybrid.layers:
        raise ModelError(
            f"hybrid attention of a {hybrid.config.model_type}: every layer has a window of its own; needed: one that "
            "sees every key. There is nothing to restrict."
        )
    layers = softmax_layers(hybrid.config)
    unknown = sorted(
        head for head in plan.full_heads if head.layer not in layers or head.head >= hybrid.shape.num_heads
    )
    if unknown:
        raise ConfigError(
            f"hybrid plan: full head {unknown[0]} ({len(unknown)} such); allowed: layers {ranges(layers)} and "
            f"heads 0 to {hybrid.shape.num_heads - 1}. Take a plan of this model."
        )


def restrictable_layers(model: PreTrainedModel) -> list[int]:
    """Layers of the decoder that see every key: those with a window of their own have little left to save."""
    config = model.config.get_text_config(decoder=True)
    windowless = getattr(config, "sliding_window", None) is None
    layer_types = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers * windowless
    return [layer for layer, kind in enumerate(layer_types) if kind == "full_attention"]
