"""The testbed's checkpoint as an ordinary transformers folder: weights, tokenizer, chat template, image processor.

`Qwen2VLProcessor` needs torchvision; the folder also works without it, through `AutoTokenizer` and
`Qwen2VLImageProcessorPil`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from rampipe.testbed.architecture import MERGE, PATCH_PX, TEMPORAL_PATCH
from rampipe.testbed.vocabulary import (
    ASSISTANT,
    END,
    IMAGE,
    PAD,
    SPECIAL_TOKENS,
    TOKEN_IDS,
    UNKNOWN,
    USER,
    VIDEO,
    VISION_END,
    VISION_START,
)

MAX_TOKENS = 4096
MIN_PIXELS = 64 * 64
MAX_PIXELS = 1280 * 28 * 28
"""Larger images are scaled down to this many pixels, 980 visual tokens: a bound for real photographs."""

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
{{%- if message.role == 'assistant' -%}}
{{{{- ' {END} ' -}}}}
{{%- endif -%}}
{{%- endfor -%}}
"""
"""The model answers right after the question's last word, so the generation prompt is empty."""


def weights_path() -> Path:
    """Folder of the trained checkpoint that ships with the package."""
    return Path(__file__).parent / "weights" / "needle-2.5m"


def make_tokenizer(
    token_ids: Mapping[str, int] = TOKEN_IDS, *, chat_template: str = CHAT_TEMPLATE, max_tokens: int = MAX_TOKENS
) -> PreTrainedTokenizerFast:
    """One token a word, split at white space. Unknown words become `<unk>`, so any text can be encoded."""
    core = Tokenizer(WordLevel(dict(token_ids), unk_token=UNKNOWN))
    core.pre_tokenizer = WhitespaceSplit()
    core.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, VISION_START, VISION_END, IMAGE, VIDEO],
        chat_template=chat_template,
        model_max_length=max_tokens,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes one configuration file as the Hub shows them: indented, with a final newline."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def save_checkpoint(
    model: Qwen2VLForConditionalGeneration, folder: Path, *, tokenizer: PreTrainedTokenizerFast | None = None
) -> None:
    """Writes the model in half precision with everything that is needed to run it. The folder may exist.

    tokenizer: None for the small testbed's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=TOKEN_IDS[END], pad_token_id=TOKEN_IDS[PAD]
    )
    cast("torch.nn.Module", model).to(torch.float16)
    model.save_pretrained(folder)
    (tokenizer or make_tokenizer()).save_pretrained(folder)
    save_processors(folder, patch_px=PATCH_PX, pixel_range=(MIN_PIXELS, MAX_PIXELS))


def save_processors(folder: Path, *, patch_px: int, pixel_range: tuple[int, int]) -> None:
    """Writes the image and video processors of Qwen2-VL: images whose pixel count is in the range keep their size."""
    shared: dict[str, object] = {
        "processor_class": "Qwen2VLProcessor",
        "patch_size": patch_px,
        "merge_size": MERGE,
        "temporal_patch_size": TEMPORAL_PATCH,
        "size": {"shortest_edge": pixel_range[0], "longest_edge": pixel_range[1]},
        "image_mean": OPENAI_CLIP_MEAN,
        "image_std": OPENAI_CLIP_STD,
    }
    image = {"image_processor_type": "Qwen2VLImageProcessor", **shared}
    video = {"video_processor_type": "Qwen2VLVideoProcessor", **shared}
    write_json(folder / "preprocessor_config.json", image)
    write_json(folder / "video_preprocessor_config.json", video)
