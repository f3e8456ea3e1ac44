"""The real widths: as many parameters as the published checkpoint has."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from rampipe.errors import ModelError
from rampipe.testbed.real_shape import make_config, write_real_shape

PUBLISHED_PARAMETERS = 3_754_622_976
"""Of Qwen/Qwen2.5-VL-3B-Instruct, as the Hub counts its safetensors."""


def num_parameters(num_layers: int, num_vision_layers: int) -> int:
    config = make_config(
        token_ids=[0, 1, 2, 3], vocabulary_size=151_936, num_layers=num_layers, num_vision_layers=num_vision_layers
    )
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    return sum(parameter.numel() for parameter in {id(one): one for one in model.parameters()}.values())


def test_with_all_layers_it_is_the_published_model():
    assert num_parameters(36, 32) == PUBLISHED_PARAMETERS
    assert num_parameters(2, 1) < PUBLISHED_PARAMETERS // 6


def test_a_tokenizer_without_vision_tokens_is_refused(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a"))).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"has no <\|vision_start\|>"):
        write_real_shape(tmp_path / "model", tokenizer_folder=tmp_path)
