"""Pieces of a small random checkpoint that all families share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


def write_tokenizer(folder: Path, markup: Sequence[str], *, template: str, bos: str | None = None) -> dict[str, int]:
    """One token a byte, and the markup. Returns the ids of the markup. bos: put before each text, as Llama's does."""
    names = [*markup, *([bos] if bos is not None and bos not in markup else [])]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    ids = {name: len(alphabet) + index for index, name in enumerate(names)}
    core.add_special_tokens(list(names))
    if bos is not None:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, ids[bos])]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, pad_token=markup[0], additional_special_tokens=list(names)
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return ids


def vocab_size(ids: dict[str, int]) -> int:
    """Embeddings that the model needs."""
    return max(ids.values()) + 1


def write_model(folder: Path, model_class: Any, config: Any) -> None:
    """Random weights with variance 1 / fan-in: attention is far from uniform, as in a trained model."""
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)


def write_json(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
