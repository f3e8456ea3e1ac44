"""A random checkpoint around a given tokenizer: loads with stock classes, needs the vision tokens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from rampipe.errors import ModelError
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.random_model import write_random_model

REAL_DATA = Path(os.environ.get("RAMPIPE_REAL_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


def num_prompt_tokens(folder: Path, size: tuple[int, int]) -> int:
    """Runs one prompt with an image of the given size and returns its length."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    model, loading = Qwen2VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(loading.values()), loading
    inputs = processor(Image.new("RGB", size, (200, 200, 200)), return_tensors="pt")
    content = [{"type": "image"}, {"type": "text", "text": "what is the total?"}]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("what is the total?<|im_end|>\n<|im_start|>assistant\n")
    num_image_tokens = int(inputs["image_grid_thw"][0].prod()) // 4
    ids = tokenizer(prompt.replace("<|image_pad|>", "<|image_pad|>" * num_image_tokens), return_tensors="pt")
    is_image = (ids["input_ids"] == model.config.image_token_id).int()
    assert int(is_image.sum()) == num_image_tokens
    with torch.no_grad():
        logits = model(**ids, **inputs, mm_token_type_ids=is_image, logits_to_keep=1).logits
    assert torch.isfinite(logits).all()
    return ids["input_ids"].shape[1]


def test_it_runs_with_the_small_tokenizer(tmp_path: Path) -> None:
    write_random_model(tmp_path, tokenizer_folder=weights_path())
    assert num_prompt_tokens(tmp_path, (280, 140)) > 50


@pytest.mark.data
def test_it_runs_a_thousand_tokens_with_a_real_tokenizer(tmp_path: Path) -> None:
    folder = REAL_DATA / "qwen2_tokenizer"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set RAMPIPE_REAL_DATA")
    write_random_model(tmp_path, tokenizer_folder=folder)
    assert num_prompt_tokens(tmp_path, (655, 1280)) > 1000


def test_a_tokenizer_without_vision_tokens_is_refused(tmp_path: Path) -> None:
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a"))).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"vision_start"):
        write_random_model(tmp_path / "model", tokenizer_folder=tmp_path)
