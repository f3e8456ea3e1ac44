"""An untrained checkpoint with the widths of Qwen2.5-VL-3B and few of its layers: memory and time of the real thing.

python -m rampipe.testbed.real_shape OUT --tokenizer FOLDER --layers 2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from transformers import AutoTokenizer, GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from rampipe.errors import ModelError
from rampipe.testbed.architecture import MERGE, TEMPORAL_PATCH
from rampipe.testbed.checkpoint import save_processors
from rampipe.testbed.random_model import CHAT_TEMPLATE, MAX_PIXELS, MIN_PIXELS, PATCH_PX, VISION_TOKENS

TEXT = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    "tie_word_embeddings": True,
}
VISION = {
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 2048,
    "patch_size": PATCH_PX,
    "spatial_merge_size": MERGE,
    "temporal_patch_size": TEMPORAL_PATCH,
    "window_size": 112,
    "tokens_per_second": 2,
}
"""As config.json of Qwen/Qwen2.5-VL-3B-Instruct says, but for the number of layers."""


def make_config(
    *, token_ids: Sequence[int], vocabulary_size: int, num_layers: int, num_vision_layers: int
) -> Qwen2_5_VLConfig:
    """token_ids: of VISION_TOKENS, in that order. The last vision layer has full attention, the others windows."""
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return Qwen2_5_VLConfig(
        text_config={**TEXT, "vocab_size": vocabulary_size, "num_hidden_layers": num_layers},
        vision_config={**VISION, "depth": num_vision_layers, "fullatt_block_indexes": [num_vision_layers - 1]},
        tie_word_embeddings=True,
        **dict(zip(names, token_ids, strict=True)),
    )


def write_real_shape(
    folder: Path, *, tokenizer_folder: Path, num_layers: int = 2, num_vision_layers: int = 1, seed: int = 0
) -> None:
    """Writes random bfloat16 weights with the given tokenizer and the widths of Qwen2.5-VL-3B.

    About 1 GB with two layers.
    Raises ModelError when the tokenizer lacks a vision token.
    """
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in VISION_TOKENS if token not in vocabulary]
    if missing:
        raise ModelError(
            f"tokenizer {tokenizer_folder}: has no {', '.join(missing)}. Give a tokenizer of the Qwen2-VL family."
        )
    config = make_config(
        token_ids=[vocabulary[token] for token in VISION_TOKENS],
        vocabulary_size=max(vocabulary.values()) + 1,
        num_layers=num_layers,
        num_vision_layers=num_vision_layers,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    cast("torch.nn.Module", model).to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = TEXT["max_position_embeddings"]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_processors(folder, patch_px=PATCH_PX, pixel_range=(MIN_PIXELS, MAX_PIXELS))


def main() -> None:
    """Write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the checkpoint")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="of a Qwen2-VL checkpoint")
    parser.add_argument("--layers", type=int, default=2, metavar="N", help="of the language model (default: 2 of 36)")
    parser.add_argument("--vision-layers", type=int, default=1, metavar="N", help="(default: 1 of 32)")
    arguments = parser.parse_args()
    write_real_shape(
        arguments.out,
        tokenizer_folder=arguments.tokenizer,
        num_layers=arguments.layers,
        num_vision_layers=arguments.vision_layers,
    )


if __name__ == "__main__":
    main()
