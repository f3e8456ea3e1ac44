"""A model of Qwen2.5-0.5B's shape with random weights, and questions about contexts of random tokens."""

from __future__ import annotations

import time
from types import SimpleNamespace

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from rampipe.models import qwen2_vl
from rampipe.models.prompts import Prompt
from rampipe.models.replica import Replica
from rampipe.models.vision import Vision
from rampipe.trials.trial import Trial
from rampipe.types import REGIONS, Sample

NULL_TOKENS = 8
"""Length of the question that calibrates: N/A within the chat template."""


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
clock_name = "wall"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def clock() -> float:
    """Seconds, of the wall or of this process's processors, which a busy machine disturbs less."""
    return CLOCKS[clock_name]()


def build(num_layers: int, device: str, dtype: torch.dtype) -> Replica:
    """The language model alone does the work: there are no images."""
    text = {
        "vocab_size": 1024,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 131072,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    }
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 896, "num_heads": 2, "mlp_ratio": 2}
    torch.manual_seed(0)
    config = Qwen2VLConfig(text_config=text, vision_config=vision, attn_implementation="sdpa")
    model = Qwen2VLForConditionalGeneration(config).to(device, dtype).eval()
    return Replica(
        model=model,
        tokenizer=SimpleNamespace(pad_token_id=0),
        family=qwen2_vl,
        vision=Vision(config, None, {}, {}, "<|image_pad|>"),
        device=torch.device(device),
        max_tokens=131072,
        visual_token_ids=(),
        control_tokens=(),
    )


def make_trials(num_tokens: int, num_questions: int, num_rows: int, *, calibrate: bool) -> list[Trial]:
    """Questions of `num_rows` tokens about one context, prompts of `num_tokens`.

    A tenth of the context is evidence, for each question another one: the middle for the first, then from the front on.
    """
    generator = torch.Generator().manual_seed(num_tokens)
    context = torch.randint(0, 1000, (num_tokens - num_rows,), generator=generator)
    null_question = torch.randint(0, 1000, (NULL_TOKENS,), generator=generator)
    size = len(context) // 10

    def prompt(number: int, question: torch.Tensor) -> Prompt:
        ids = torch.cat([context, question])
        regions = torch.full((len(context),), REGIONS.index("other_text"), dtype=torch.int8)
        first = number * size // 2 if number else len(context) // 2
        regions[first : first + size] = REGIONS.index("evidence")
        asked = torch.full((len(question),), REGIONS.index("question"), dtype=torch.int8)
        return Prompt(
            sample_id=str(number),
            input_ids=ids,
            regions=torch.cat([regions, asked]),
            piece_tokens=torch.zeros_like(ids),
            inputs={"mm_token_type_ids": torch.zeros_like(ids)},
            images={},
            question=slice(len(context), len(ids)),
            num_prompt_tokens=len(ids),
            visual_positions=torch.zeros(0, dtype=torch.int64),
            token_boxes=torch.zeros(0, 4, dtype=torch.float64),
            token_frames=torch.zeros(0, 1, dtype=torch.int64),
            flags=(),
        )

    return [
        Trial(
            sample=Sample(str(number), "random", (), (), "?", (), None, ()),
            context_key="one",
            prompt=prompt(number, torch.randint(0, 1000, (num_rows,), generator=generator)),
            null_prompt=prompt(number, null_question) if calibrate else None,
        )
        for number in range(num_questions)
    ]
