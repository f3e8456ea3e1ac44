"""Decoders of a few thousand weights, one per way in which attention differs, with queries and keys boosted to peak."""

from __future__ import annotations

import torch
import transformers as hf

torch.set_num_threads(1)  # operations this small only wait for one another

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 7
IMAGE_TOKEN = 60


def qwen2():
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(**SMALL))


def qwen3_wide_heads():
    """head_dim 24 is not hidden_size / num_attention_heads = 8."""
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(**SMALL, head_dim=24))


def mistral_sliding():
    return hf.MistralForCausalLM(hf.MistralConfig(**SMALL, head_dim=8, sliding_window=WINDOW))


def gemma2_softcap():
    config = hf.Gemma2Config(
        **SMALL, head_dim=8, query_pre_attn_scalar=8, sliding_window=WINDOW, attn_logit_softcapping=2.0
    )
    return hf.Gemma2ForCausalLM(config)


def gemma3_mixed():
    config = hf.Gemma3TextConfig(
        **SMALL,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )
    return hf.Gemma3ForCausalLM(config)


def gpt_oss_sinks():
    config = hf.GptOssConfig(**SMALL, head_dim=8, sliding_window=WINDOW, num_local_experts=2, num_experts_per_tok=1)
    return hf.GptOssForCausalLM(config)


def qwen2_vl():
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    text = {**SMALL, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
    config = hf.Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE_TOKEN,
        video_token_id=61,
        vision_start_token_id=62,
        vision_end_token_id=63,
    )
    return hf.Qwen2VLForConditionalGeneration(config)


FAMILIES = {
    "qwen2": qwen2,
    "qwen3_wide_heads": qwen3_wide_heads,
    "mistral_sliding": mistral_sliding,
    "gemma2_softcap": gemma2_softcap,
    "gemma3_mixed": gemma3_mixed,
    "gpt_oss_sinks": gpt_oss_sinks,
    "qwen2_vl": qwen2_vl,
}
WITHOUT_SDPA = ("gemma2_softcap", "gpt_oss_sinks")


def build(family, implementation="sdpa", *, seed=0):
    """The model in evaluation mode, float32, with peaked attention."""
    torch.manual_seed(seed)
    model = FAMILIES[family]().eval()
    for name, weight in model.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            torch.nn.init.normal_(weight, std=0.35)
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            torch.nn.init.constant_(weight, 0.8 if family == "gemma3_mixed" else 1.6)  # Gemma adds 1 to it
        if name.endswith("sinks"):
            torch.nn.init.normal_(weight)
    model.set_attn_implementation(implementation)
    return model


def prompt(family, *, num_tokens=40, padding="none", batch=3, seed=1):
    """(model inputs, regions, lengths): sequences of different length where padded, 6 image tokens each in Qwen2-VL."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 60, (batch, num_tokens), generator=generator)
    lengths = [num_tokens] * batch if padding == "none" else [num_tokens - 9 * i for i in range(batch)]
    real = torch.zeros(batch, num_tokens, dtype=torch.bool)
    for i, length in enumerate(lengths):
        real[i, num_tokens - length :] = padding == "left"
        real[i, :length] |= padding != "left"
    inputs = {"attention_mask": real.long()}
    if family == "qwen2_vl":
        image = torch.zeros_like(real)
        for i in range(batch):
            start = int(real[i].nonzero()[0]) + 3
            image[i, start : start + 6] = True
        ids[image] = IMAGE_TOKEN
        inputs["mm_token_type_ids"] = image.int()
        inputs["image_grid_thw"] = torch.tensor([[1, 4, 6]] * batch)
        inputs["pixel_values"] = torch.randn(batch * 24, 3 * 2 * 14 * 14, generator=generator)
    inputs["input_ids"] = ids.masked_fill(~real, 0)
    regions = torch.randint(0, 7, ids.shape, generator=generator, dtype=torch.int8).masked_fill(~real, -1)
    return inputs, regions, real


def last_rows(real, num_rows=5):
    """The last rows of each sequence, batch elements interleaved."""
    from rampipe.attention.capture import QueryRows

    positions = torch.stack([line.nonzero().flatten()[-num_rows:] for line in real], dim=1)
    batch = torch.arange(len(real)).expand_as(positions)
    return QueryRows(batch=batch.flatten(), position=positions.flatten())
