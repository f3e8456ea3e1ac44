"""Checkpoints to replicas. Whatever would make numbers meaningless later is refused here, with the cause."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from rampipe.config import ModelConfig
from rampipe.errors import ModelError
from rampipe.models.checkpoint import find_checkpoint, list_weight_files, read_config
from rampipe.models.device_map import DeviceMap, free_bytes, place_weights
from rampipe.models.families import family_type, find_family
from rampipe.models.identity import model_identity, model_slug
from rampipe.models.kernels import check_attention, choose_attention
from rampipe.models.processors import (
    LOCAL,
    check_num_tokens,
    control_tokens,
    load_model_config,
    load_tokenizer,
    load_vision,
    one_line,
    visual_token_ids,
)
from rampipe.models.replica import Replica
from rampipe.models.torchvision import hide_broken_torchvision

__all__ = ["load_replica", "model_identity", "model_slug"]

SHOWN_KEYS = 3
ROPE_BY_LENGTH = ("longrope", "dynamic")


def load_replica(
    config: ModelConfig, *, device: str | None = None, threads: int | None = None, num_gpus: int = 1
) -> Replica:
    """Loads a checkpoint in eval mode, without gradients, in the configured dtype and attention implementation.

    device: `cuda`, `cpu`, ...; None takes CUDA when there is one. threads: of torch on the CPU; None leaves them.
    num_gpus: over which the layers are spread, where the device is CUDA; see `plan_device_map`.
    Raises ModelError naming the path, file, key or type that is wrong, or the bytes that are missing.
    """
    hide_broken_torchvision()
    if threads is not None:
        torch.set_num_threads(threads)
    folder = find_checkpoint(config)
    raw_config = read_config(folder)
    family = find_family(family_type(raw_config))
    _check_weight_files(folder)
    tokenizer = load_tokenizer(folder)
    model_config = load_model_config(folder)
    vision = load_vision(folder, family, model_config, tokenizer)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model_class = _model_class(has_vision=vision is not None)
    on_gpu = place.type == "cuda"
    attention = choose_attention(config, raw_config["model_type"], on_gpu=on_gpu)
    check_attention(attention, config, raw_config["model_type"], on_gpu=on_gpu)
    memory_bytes = free_bytes(num_gpus) if on_gpu else ()
    device_map = place_weights(model_class, model_config, config, memory_bytes=memory_bytes)
    model = _load_model(folder, config, model_class, attention=attention, device_map=device_map)
    check_num_tokens(folder, tokenizer, model)
    if device_map is None:
        model = model.to(place)
    return Replica(
        model=model,
        tokenizer=tokenizer,
        family=family,
        vision=vision,
        device=place if device_map is None else model.get_input_embeddings().weight.device,
        max_tokens=longest_context(model.config.get_text_config(decoder=True)),
        visual_token_ids=visual_token_ids(tokenizer, vision),
        control_tokens=control_tokens(tokenizer, vision),
    )


def longest_context(text_config: Any) -> int:
    """Tokens that a prompt may have.

    Rotary frequencies of some types (`longrope`, `dynamic`) change for the whole batch when it is longer than the
    context of pretraining: a prompt's result would depend on its neighbours. There prompts end with that context.
    """
    longest = int(text_config.max_position_embeddings)
    rope = getattr(text_config, "rope_parameters", None) or {}
    for parameters in (rope, *(entry for entry in rope.values() if isinstance(entry, dict))):
        if parameters.get("rope_type") in ROPE_BY_LENGTH:
            longest = min(longest, int(parameters.get("original_max_position_embeddings") or longest))
    return longest


def _check_weight_files(folder: Path) -> None:
    """Reads every header: a truncated file is named here, where transformers would only show an offset."""
    from safetensors import SafetensorError, safe_open

    for path in list_weight_files(folder):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"weight file {path} of {path.stat().st_size} bytes is damaged or truncated ({error}). Fetch it again."
            ) from error


def _model_class(*, has_vision: bool) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if has_vision else AutoModelForCausalLM


def _load_model(
    folder: Path, config: ModelConfig, model_class: Any, *, attention: str, device_map: DeviceMap | None
) -> Any:
    from transformers.utils import logging

    logging.disable_progress_bar()  # the job has one of its own
    try:
        loaded: Any = model_class.from_pretrained(
            folder,
            dtype=getattr(torch, config.dtype),
            attn_implementation=attention,  # always: config.json could name a kernel of the Hub
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to name them all below, instead of only the first
            device_map=device_map,
            **LOCAL,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"model of {folder} cannot be loaded: {one_line(error)}") from error
    model, info = loaded
    _check_loaded(folder, info)
    found = model.get_decoder().config._attn_implementation
    if found != attention:
        raise ModelError(
            f"model of {folder} runs {found!r} attention, and run.json says {attention!r}. Set model.attention to "
            f"{found!r}."
        )
    return model.eval().requires_grad_(False)


def _check_loaded(folder: Path, info: dict[str, Any]) -> None:
    """Missing or misshapen weights stay random, and the model answers all the same. Tied weights are not missing."""
    mismatched = sorted(str(entry[0]) for entry in info["mismatched_keys"])
    # A layer in the weights and not in the configuration: the model would be cut short. Other extras are harmless.
    surplus = sorted(key for key in info["unexpected_keys"] if re.search(r"(^|\.)(layers|blocks)\.\d+\.", key))
    for what, keys in (("missing", sorted(info["missing_keys"])), ("of other shape", mismatched), ("unknown", surplus)):
        if keys:
            shown = ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")
            raise ModelError(
                f"weights of {folder} do not match its config.json: {len(keys)} {what} ({shown}). "
                "Pass a whole checkpoint whose configuration and weights belong together."
            )
