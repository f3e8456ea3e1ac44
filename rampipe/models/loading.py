"""Checkpoints to replicas. Whatever would make numbers meaningless later is refused here, with the cause."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from rampipe.config import ModelConfig
from rampipe.errors import ModelError
from rampipe.models.checkpoint import find_checkpoint, list_weight_files, read_chat_template, read_config
from rampipe.models.families import find_family
from rampipe.models.family import Family
from rampipe.models.identity import model_identity, model_slug
from rampipe.models.replica import Replica
from rampipe.models.torchvision import hide_broken_torchvision

__all__ = ["load_replica", "model_identity", "model_slug"]

SHOWN_KEYS = 3
LOCAL = {"trust_remote_code": False, "local_files_only": True}


def load_replica(config: ModelConfig, *, device: str | None = None, threads: int | None = None) -> Replica:
    """Loads a checkpoint in eval mode, without gradients, in the configured dtype and attention implementation.

    device: `cuda`, `cpu`, ...; None takes CUDA when there is one. threads: of torch on the CPU; None leaves them.
    Raises ModelError naming the path, file, key or type that is wrong.
    """
    hide_broken_torchvision()
    if threads is not None:
        torch.set_num_threads(threads)
    folder = find_checkpoint(config)
    family = find_family(read_config(folder)["model_type"])
    _check_weight_files(folder)
    tokenizer = _load_tokenizer(folder)
    image_processor = _load_image_processor(folder)
    model = _load_model(folder, config)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    image_token = _check_tokenizer(folder, tokenizer, model, family)
    return Replica(
        model=model.to(place),
        tokenizer=tokenizer,
        image_processor=image_processor,
        family=family,
        device=place,
        max_tokens=int(model.config.get_text_config().max_position_embeddings),
        image_token=image_token,
        image_token_id=family.image_token_id(model.config),
        control_tokens=_control_tokens(tokenizer),
    )


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


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"tokenizer of {folder} cannot be loaded: {_one_line(error)}. Fetch its files again."
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(f"tokenizer of {folder} is not a fast one, which alone tells the characters of each token.")
    template = read_chat_template(folder)
    if template is not None:
        tokenizer.chat_template = template
    if not isinstance(tokenizer.chat_template, str):
        raise ModelError(f"{folder} has no chat template. Add chat_template.jinja, or pass an instruction-tuned model.")
    return tokenizer


def _load_image_processor(folder: Path) -> Any:
    """Always Pillow's variant, where there is one: pixels are then the same with and without torchvision."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil", **LOCAL)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"image processor of {folder} cannot be loaded: {_one_line(error)}. It needs preprocessor_config.json."
        ) from error


def _load_model(folder: Path, config: ModelConfig) -> Any:
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()  # the job has one of its own
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attention,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to name them all below, instead of only the first
            **LOCAL,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"model of {folder} cannot be loaded: {_one_line(error)}") from error
    model, info = loaded
    _check_loaded(folder, info)
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


def _check_tokenizer(folder: Path, tokenizer: Any, model: Any, family: Family) -> str:
    """Returns the image token. Raises ModelError when tokenizer, template and model do not belong together."""
    num_rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > num_rows:
        raise ModelError(
            f"tokenizer of {folder} has {len(tokenizer)} tokens, the model only {num_rows} embeddings. "
            "Pass a checkpoint whose tokenizer and weights belong together."
        )
    image_token_id = family.image_token_id(model.config)
    added = tokenizer.added_tokens_decoder.get(image_token_id)
    if added is None:
        raise ModelError(
            f"config.json of {folder} says image token {image_token_id}, which is no added token of its tokenizer "
            f"({len(tokenizer)} tokens). Pass a checkpoint whose tokenizer and weights belong together."
        )
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]}
    rendered = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    if rendered.count(added.content) != 1:
        raise ModelError(
            f"chat template of {folder} writes {rendered.count(added.content)} image tokens {added.content!r} for one "
            "image, not 1. Pass the template that belongs to this model."
        )
    return str(added.content)


def _control_tokens(tokenizer: Any) -> tuple[str, ...]:
    return tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
