"""What a checkpoint is, by content: the part of a run's fingerprint that the model gives. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rampipe.config import ModelConfig
from rampipe.models.checkpoint import (
    PREPROCESSOR_FILES,
    TOKENIZER_FILES,
    find_checkpoint,
    list_weight_files,
    read_chat_template,
    read_config,
)
from rampipe.models.kernels import choose_attention

HASH_CHUNK_BYTES = 1 << 24
SLUG_LENGTH = 64


def model_identity(config: ModelConfig, *, on_gpu: bool) -> dict[str, str]:
    """SHA-256 of everything that changes numbers, by name; equal for copies of a checkpoint in other places.

    Keys: config.json, weights/<file>, tokenizer and preprocessor files that exist, chat_template (its text, wherever it
    is stored), dtype, and the attention that `choose_attention` takes on a GPU or a CPU. The generation configuration
    is left out: decoding is ours. Path and revision are left out: the content says it all. All weight files are read,
    so a large checkpoint takes a while.
    Raises ModelError.
    """
    folder = find_checkpoint(config)
    weights = list_weight_files(folder)
    others = [folder / name for name in ("config.json", *TOKENIZER_FILES, *PREPROCESSOR_FILES)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        weight_hashes = list(pool.map(_hash_file, weights))
    identity = {f"weights/{path.name}": digest for path, digest in zip(weights, weight_hashes, strict=True)}
    identity |= {path.name: _hash_file(path) for path in others if path.is_file()}
    template = read_chat_template(folder) or _tokenizer_template(folder)
    if template is not None:
        identity["chat_template"] = hashlib.sha256(template.encode()).hexdigest()
    attention = choose_attention(config, str(read_config(folder)["model_type"]), on_gpu=on_gpu)
    return {**identity, "dtype": config.dtype, "attention": attention}


def model_slug(config: ModelConfig) -> str:
    """A name for paths: the last part of the Hub id or folder, only [a-z0-9._-], 1 to 64 characters, no `..`."""
    name = Path(config.path.rstrip("/")).name.lower()
    name = re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", name))
    return name.strip("-._")[:SLUG_LENGTH].rstrip("-._") or "model"


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _tokenizer_template(folder: Path) -> str | None:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return None
    template = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
    return template if template is None or isinstance(template, str) else json.dumps(template, sort_keys=True)
