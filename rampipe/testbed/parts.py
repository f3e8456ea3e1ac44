"""The parts of a Qwen2-VL model under their own types: `nn.Module` attributes are untyped."""

from __future__ import annotations

from typing import cast

from torch import nn
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    Qwen2VisionTransformerPretrainedModel,
    Qwen2VLDecoderLayer,
    Qwen2VLTextModel,
    Qwen2VLVisionBlock,
)


def text_config(config: Qwen2VLConfig) -> Qwen2VLTextConfig:
    """The language model's own configuration."""
    return cast("Qwen2VLTextConfig", config.text_config)


def vision_tower(model: Qwen2VLForConditionalGeneration) -> Qwen2VisionTransformerPretrainedModel:
    """Patches in, one feature a merged visual token out."""
    return model.model.visual


def vision_blocks(tower: Qwen2VisionTransformerPretrainedModel) -> list[Qwen2VLVisionBlock]:
    """The vision tower's layers in order."""
    return [cast("Qwen2VLVisionBlock", block) for block in tower.blocks]


def language_model(model: Qwen2VLForConditionalGeneration) -> Qwen2VLTextModel:
    """The decoder without its output layer."""
    return model.model.language_model


def decoder_layers(model: Qwen2VLForConditionalGeneration) -> list[Qwen2VLDecoderLayer]:
    """The decoder's layers in order."""
    return [cast("Qwen2VLDecoderLayer", layer) for layer in language_model(model).layers]


def word_embeddings(model: Qwen2VLForConditionalGeneration) -> nn.Parameter:
    """Rows of word vectors, tied to the output layer."""
    return cast("nn.Parameter", language_model(model).embed_tokens.weight)
