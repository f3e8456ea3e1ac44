"""The files of a checkpoint: where they are and what they are called. Nothing is loaded here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rampipe.config import ModelConfig
from rampipe.errors import ModelError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
DOWNLOADED_FILES = ("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json")


def find_checkpoint(config: ModelConfig) -> Path:
    """The local folder of a checkpoint; a Hub id is downloaded (or found in the cache) first.

    Only safetensors, JSON, templates and vocabularies are fetched: no pickles, no code.
    Raises ModelError when the path is neither a folder nor a Hub id that can be had.
    """
    folder = Path(config.path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not _is_hub_id(config.path):
        seen = "is a file" if folder.exists() else "does not exist"
        raise ModelError(
            f"model.path {config.path!r} {seen}: it is not a folder and not a Hub id (owner/name). "
            "Pass the folder that holds config.json, or a Hub id."
        )
    return _download(config)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dictionary with a `model_type`. Raises ModelError."""
    content = _read_json(folder / "config.json")
    if not isinstance(content.get("model_type"), str):
        raise ModelError(f"{folder / 'config.json'} has no model_type. Pass a checkpoint in the transformers format.")
    return content


def list_weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers would load, sorted. Raises ModelError when one is missing."""
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise ModelError(
            f"{folder} has neither model.safetensors nor model.safetensors.index.json. "
            "Only safetensors are loaded, pickled weights never; convert them or pass another checkpoint."
        )
    names = sorted({str(name) for name in _read_json(index).get("weight_map", {}).values()})
    if not names:
        raise ModelError(f"{index} names no weight file. Fetch the checkpoint again.")
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelError(f"{index} names {name!r}, which is not in {folder}. Fetch the checkpoint again.")
    return [folder / name for name in names]


def read_chat_template(folder: Path) -> str | None:
    """The processor's chat template, which comes before the tokenizer's own; None when only the tokenizer has one."""
    template = folder / "chat_template.jinja"
    if template.is_file():
        return template.read_text(encoding="utf-8")
    for name in ("chat_template.json", "processor_config.json"):
        if (folder / name).is_file():
            content = _read_json(folder / name).get("chat_template")
            if isinstance(content, str):
                return content
    return None


def read_processor_settings(folder: Path) -> dict[str, Any]:
    """processor_config.json; empty without one. Raises ModelError."""
    path = folder / "processor_config.json"
    return _read_json(path) if path.is_file() else {}


def read_video_settings(folder: Path) -> dict[str, Any]:
    """Configuration of the video processor: its own file, its part of the processor's, or, in old ones, the image's."""
    own = folder / "video_preprocessor_config.json"
    if own.is_file():
        return _read_json(own)
    nested = read_processor_settings(folder).get("video_processor")
    if isinstance(nested, dict):
        return nested
    image = folder / "preprocessor_config.json"
    return _read_json(image) if image.is_file() else {}


def _is_hub_id(path: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(path)
    except HFValidationError:
        return False
    return path.count("/") == 1 and not path.startswith((".", "~"))


def _download(config: ModelConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [*DOWNLOADED_FILES, *TOKENIZER_FILES, *PREPROCESSOR_FILES, *TEMPLATE_FILES]
    try:
        folder = snapshot_download(
            config.path, revision=config.revision, allow_patterns=patterns, ignore_patterns=["*/*"]
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"model.path {config.path!r} (revision {config.revision or 'main'}) is not a folder, and the Hub did not "
            f"give it ({type(error).__name__}). Check the spelling, the revision, the network and your access to it."
        ) from error
    return Path(folder)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing. Pass the folder of a whole checkpoint.") from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read as JSON ({type(error).__name__}). Fetch the checkpoint again."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not an object. Fetch the checkpoint again.")
    return content
