"""Models of text: evidence is text, and a sample that shows an image is refused."""

from __future__ import annotations

from typing import Any

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3")


def image_token_id(model_config: Any) -> int | None:
    """None: no token stands for an image."""
    return None
