"""A tiny random Qwen2-VL checkpoint on disk, with a word tokenizer and Qwen's chat template."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from rampipe.config import ModelConfig
from rampipe.models.loading import load_replica
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

MARKUP = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
WORDS = "system user assistant You are a helpful assistant . ? where is the cat dog red blue N A / picture of yes no"
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _write_tokenizer(folder: Path) -> None:
    words = list(dict.fromkeys([*MARKUP, "[UNK]", *WORDS.split()]))
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), behavior="removed", invert=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token=MARKUP[0], additional_special_tokens=list(MARKUP[1:])
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def _make_config() -> Qwen2VLConfig:
    text = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    ids = {"vision_start_token_id": 3, "vision_end_token_id": 4, "image_token_id": 5, "video_token_id": 63}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as a folder. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "Tiny Qwen2-VL"
    _write_tokenizer(folder)
    torch.manual_seed(0)
    Qwen2VLForConditionalGeneration(_make_config()).eval().save_pretrained(folder)
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 8,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": 32 * 32, "longest_edge": 96 * 96},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    return load_replica(ModelConfig(path=str(tiny_folder), dtype="float32"), device="cpu", threads=1)


@pytest.fixture(scope="session")
def png():
    """Makes the bytes of a random image of a size."""

    def make(width: int, height: int, seed: int = 0) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def make_sample(png):
    """Makes a sample of context parts (strings, or image indices) over two images of 64x32 and 48x48 px."""

    def make(
        *parts: str | int, question: str = "where is the cat ?", evidence: tuple[Evidence, ...] = (), images=None
    ) -> Sample:
        context = tuple(
            ContextPart("text", text=part) if isinstance(part, str) else ContextPart("image", image=part)
            for part in parts
        )
        stored = images or (StoredImage(png(64, 32), None), StoredImage(png(48, 48, 1), None))
        return Sample("s/1", "tiny", context, stored, question, ("yes",), None, evidence)

    return make


@pytest.fixture(scope="session")
def qwen_tokenizer_folder(real_data: Path) -> Path:
    return real_data / "qwen2_tokenizer"
