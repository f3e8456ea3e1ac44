"""Where the outputs of a layer's heads still lie side by side: the input of its output projection.

Found by structure, not by class name. Slices follow the projection's own width, so `head_dim` may differ from
hidden / heads, and a gate between attention and projection (Qwen3.5) is behind us.
"""

from __future__ import annotations

import inspect

from torch import nn
from transformers import PreTrainedModel

from rampipe.attention.layers import expected_layers
from rampipe.errors import ConfigError, ModelError

OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "dense", "wo", "c_proj", "output_proj")
"""Names over the 348 model files of transformers 5.23 that use its registry."""

REGISTRY_NAME = "ALL_ATTENTION_FUNCTIONS"


def attention_modules(model: PreTrainedModel) -> dict[int, nn.Module]:
    """The decoder's softmax-attention modules by their own layer index: those whose forward looks up the registry.

    Raises ModelError when two modules carry the same index, as self- and cross-attention do.
    """
    found: dict[int, nn.Module] = {}
    for module in model.get_decoder().modules():
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int) or not _uses_registry(type(module)):
            continue
        if layer in found:
            raise ModelError(
                f"layer {layer} has two attention modules, {type(found[layer]).__name__} and {type(module).__name__}; "
                "allowed: one, as a head is named by layer and index. This model cannot be silenced."
            )
        found[layer] = module
    return found


def attention_of(model: PreTrainedModel, modules: dict[int, nn.Module], layer: int) -> nn.Module:
    """Raises ConfigError for a layer without softmax attention, ModelError for one whose attention is not found."""
    if layer in modules:
        return modules[layer]
    expected = expected_layers(model)
    if layer not in expected:
        raise ConfigError(
            f"layer {layer}: {type(model).__name__} has softmax attention in layers {expected} only. Take heads of a "
            "ranking of this model."
        )
    raise ModelError(
        f"{type(model).__name__} layer {layer}: no attention module that uses transformers' registry; found layers "
        f"{sorted(modules)}. This model cannot be silenced."
    )


def count_heads(attention: nn.Module) -> int:
    """Query heads of one attention module, from itself or its configuration. Raises ModelError when neither says."""
    config = getattr(attention, "config", None)
    for owner, name in ((attention, "num_heads"), (attention, "num_attention_heads"), (config, "num_attention_heads")):
        count = getattr(owner, name, None)
        if isinstance(count, int):
            return count
    raise ModelError(
        f"{type(attention).__name__}: neither it nor its config has num_heads or num_attention_heads; needed: one, to "
        "cut its output into heads. This model cannot be silenced."
    )


def output_projection(attention: nn.Module) -> tuple[nn.Module, int]:
    """The projection that mixes the heads of `attention`, and how many of its inputs are one head's.

    Raises ModelError when there is none, or when the heads do not divide its inputs.
    """
    for name in OUTPUT_PROJECTIONS:
        projection = getattr(attention, name, None)
        width = getattr(projection, "in_features", None)
        if isinstance(projection, nn.Module) and isinstance(width, int):
            num_heads = count_heads(attention)
            if width % num_heads:
                raise ModelError(
                    f"{type(attention).__name__}.{name} has {width} inputs for {num_heads} heads; allowed: a multiple. "
                    "Its heads are not slices of this input; this model cannot be silenced by mode zero or mean."
                )
            return projection, width // num_heads
    raise ModelError(
        f"{type(attention).__name__} has none of {', '.join(OUTPUT_PROJECTIONS)} with in_features; needed: one, whose "
        "input holds the heads side by side. This model cannot be silenced by mode zero or mean."
    )


def _uses_registry(module_type: type[nn.Module]) -> bool:
    forwards = [vars(parent)["forward"] for parent in module_type.__mro__ if "forward" in vars(parent)]
    codes = [getattr(inspect.unwrap(forward), "__code__", None) for forward in forwards]
    return any(code is not None and REGISTRY_NAME in code.co_names for code in codes)
