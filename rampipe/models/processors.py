"""Tokenizer and image processor of a checkpoint, and whether they, the template and the model belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rampipe.errors import ModelError
from rampipe.models.checkpoint import read_chat_template, read_processor_settings, read_video_settings
from rampipe.models.family import Family, VideoFamily, VisionFamily
from rampipe.models.vision import Vision

LOCAL = {"trust_remote_code": False, "local_files_only": True}


def load_model_config(folder: Path) -> Any:
    """The transformers configuration. Raises ModelError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, **LOCAL)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise ModelError(f"configuration of {folder} cannot be loaded: {one_line(error)}") from error


def load_tokenizer(folder: Path) -> Any:
    """A fast tokenizer with the processor's chat template. Raises ModelError."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"tokenizer of {folder} cannot be loaded: {one_line(error)}. Fetch its files again."
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
            f"image processor of {folder} cannot be loaded: {one_line(error)}. It needs preprocessor_config.json."
        ) from error


def load_vision(folder: Path, family: Family, model_config: Any, tokenizer: Any) -> Vision | None:
    """What turns images into inputs; None for a model of text. Raises ModelError."""
    image_token_id = family.image_token_id(model_config)
    if image_token_id is None or not isinstance(family, VisionFamily):
        return None
    image_token = _added_token(tokenizer, image_token_id)
    if image_token is None:
        raise ModelError(
            f"config.json of {folder} says image token {image_token_id}, which is no added token of its tokenizer "
            f"({len(tokenizer)} tokens). Pass a checkpoint whose tokenizer and weights belong together."
        )
    vision = Vision(
        config=model_config,
        image_processor=_load_image_processor(folder),
        settings=read_processor_settings(folder),
        video_settings=read_video_settings(folder),
        image_token=image_token,
        video_token=_added_token(tokenizer, family.video_token_id(model_config))
        if isinstance(family, VideoFamily)
        else None,
    )
    _check_template(folder, tokenizer, family.placeholder(vision))
    return vision


def visual_token_ids(tokenizer: Any, vision: Vision | None) -> tuple[int, ...]:
    """Ids of the tokens that stand for visual tokens; none for a model of text."""
    tokens = [] if vision is None else [vision.image_token, vision.video_token]
    return tuple(dict.fromkeys(tokenizer.convert_tokens_to_ids(token) for token in tokens if token is not None))


def control_tokens(tokenizer: Any, vision: Vision | None) -> tuple[str, ...]:
    """Strings that the tokenizer, or the model's processor, reads as markup."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    visual = [] if vision is None else [vision.image_token, vision.video_token]
    return tuple(dict.fromkeys([*special, *(token for token in visual if token is not None)]))


def check_num_tokens(folder: Path, tokenizer: Any, model: Any) -> None:
    """Raises ModelError when the tokenizer has tokens that the model has not."""
    num_rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > num_rows:
        raise ModelError(
            f"tokenizer of {folder} has {len(tokenizer)} tokens, the model only {num_rows} embeddings. "
            "Pass a checkpoint whose tokenizer and weights belong together."
        )


def one_line(error: Exception) -> str:
    """The start of another library's message."""
    return " ".join(str(error).split())[:300]


def _added_token(tokenizer: Any, token_id: int) -> str | None:
    added = tokenizer.added_tokens_decoder.get(token_id)
    return None if added is None else str(added.content)


def _check_template(folder: Path, tokenizer: Any, placeholder: str) -> None:
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]}
    rendered = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    if rendered.count(placeholder) != 1:
        raise ModelError(
            f"chat template of {folder} writes {rendered.count(placeholder)} image tokens {placeholder!r} for one "
            "image, not 1. Pass the template that belongs to this model."
        )
