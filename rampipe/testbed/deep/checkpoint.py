"""The deep testbed's checkpoint: as the small one's, with more words and a chat template that ends the message."""

from __future__ import annotations

from pathlib import Path

from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.checkpoint import make_tokenizer, save_checkpoint, weights_path
from rampipe.testbed.deep.words import TOKEN_IDS
from rampipe.testbed.vocabulary import ASSISTANT, END, IMAGE, USER, VIDEO, VISION_END, VISION_START

MAX_TOKENS = 8192

CHAT_TEMPLATE = f"""{{%- for message in messages -%}}
{{{{- '{USER}' if message.role == 'user' else '{ASSISTANT}' -}}}}
{{%- if message.content is string -%}}
{{{{- ' ' + message.content -}}}}
{{%- else -%}}
{{%- for part in message.content -%}}
{{%- if part.type == 'image' -%}}
{{{{- ' {VISION_START}{IMAGE}{VISION_END}' -}}}}
{{%- elif part.type == 'video' -%}}
{{{{- ' {VISION_START}{VIDEO}{VISION_END}' -}}}}
{{%- elif part.type == 'text' -%}}
{{{{- ' ' + part.text -}}}}
{{%- endif -%}}
{{%- endfor -%}}
{{%- endif -%}}
{{{{- ' {END} ' -}}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
{{{{- '{ASSISTANT}' -}}}}
{{%- endif -%}}
"""


def deep_weights_path() -> Path:
    """Folder of the trained deep checkpoint that ships with the package."""
    return weights_path().with_name("deep-3.2m")


def save_deep_checkpoint(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
    """Writes the model, its tokenizer and its processors, in half precision. The folder may exist."""
    model.set_attn_implementation("eager")
    tokenizer = make_tokenizer(TOKEN_IDS, chat_template=CHAT_TEMPLATE, max_tokens=MAX_TOKENS)
    save_checkpoint(model, folder, tokenizer=tokenizer)
