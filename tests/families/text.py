"""Models of text: Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3, Phi 3."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import transformers

from tests.families.builder import Builder
from tests.families.parts import vocab_size, write_model, write_tokenizer

MARKUP = ("<pad>", "<s>", "<|turn|>", "<|end|>", "<|endoftext|>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['content'] is not string %}"
    "{{ raise_exception('content is a string') }}{% endif %}<|turn|>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def write_text(folder: Path, *, name: str, **changes: Any) -> None:
    """name: of the classes, as in `LlamaConfig`."""
    ids = write_tokenizer(folder, MARKUP, template=TEMPLATE, bos="<s>")
    tokens = {"bos_token_id": ids["<s>"], "eos_token_id": ids["<|end|>"], "pad_token_id": ids["<pad>"]}
    config_class = getattr(transformers, f"{name}{'Text' if name == 'Gemma3' else ''}Config")
    config = config_class(**{**TEXT, "vocab_size": vocab_size(ids), **tokens, **changes})
    write_model(folder, getattr(transformers, f"{name}ForCausalLM"), config)


SMALL_WINDOW = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}

BUILDERS = (
    Builder("Llama", "llama", partial(write_text, name="Llama")),
    Builder("Mistral", "mistral", partial(write_text, name="Mistral", sliding_window=None)),
    Builder(
        "Mistral (sliding window)",
        "mistral",
        partial(write_text, name="Mistral", sliding_window=16),
        hybrid_refusal="every layer has a window of its own",
    ),
    Builder("Qwen2", "qwen2", partial(write_text, name="Qwen2")),
    Builder("Qwen3", "qwen3", partial(write_text, name="Qwen3", head_dim=16)),
    Builder("Gemma", "gemma", partial(write_text, name="Gemma", head_dim=8)),
    Builder(
        "Gemma 2 (eager)",
        "gemma2",
        partial(write_text, name="Gemma2", head_dim=8, query_pre_attn_scalar=8, **SMALL_WINDOW),
        hybrid_refusal="allowed: sdpa",
    ),
    Builder(
        "Gemma 3 (text)",
        "gemma3_text",
        partial(write_text, name="Gemma3", head_dim=8, query_pre_attn_scalar=8, **SMALL_WINDOW),
    ),
    Builder("Phi 3", "phi3", partial(write_text, name="Phi3")),
)
