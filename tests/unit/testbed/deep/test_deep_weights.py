"""The deep testbed's shipped weights: stock loading, held-out accuracy, where retrieval sits, ablation."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from rampipe.testbed.deep.checkpoint import deep_weights_path
from rampipe.testbed.deep.curriculum import LEVELS
from rampipe.testbed.deep.evaluate import ORDERS, Observed, observe, rank_by_mass
from rampipe.testbed.deep.language import draw_step, key_loss, last_hidden
from rampipe.testbed.deep.packing import Order
from rampipe.testbed.deep.samples import generate_deep_samples
from rampipe.testbed.vocabulary import IMAGE
from rampipe.types import HeadId, Sample

DIGEST = "6e84ec44469f"
"""How the SHA-256 of the weights begins in docs/testbed.md."""
MAX_WEIGHTS_BYTES = 24_000_000
SHORT = 4
"""The level whose contexts are as long as short samples."""
orders = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture(scope="module")
def base(model: Qwen2VLForConditionalGeneration) -> dict[Order, Observed]:
    return {order: observe(model, SHORT, order=order, num_steps=3, seed=1) for order in ORDERS}


@pytest.fixture(scope="module")
def ranking(model: Qwen2VLForConditionalGeneration) -> list[HeadId]:
    return rank_by_mass(observe(model, SHORT, order="context_first", num_steps=3, seed=2).mass["image"])


def test_the_folder_loads_with_stock_classes_without_missing_keys() -> None:
    folder = deep_weights_path()
    stock: Any = AutoModelForImageTextToText
    loaded, loading = stock.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(loading.values()), loading
    assert type(loaded).__name__ == "Qwen2VLForConditionalGeneration"
    assert sum(weight.numel() for weight in loaded.parameters()) < 12_000_000
    assert (folder / "model.safetensors").stat().st_size < MAX_WEIGHTS_BYTES


def test_the_weights_are_those_of_the_documented_run() -> None:
    digest = hashlib.sha256((deep_weights_path() / "model.safetensors").read_bytes()).hexdigest()
    assert digest.startswith(DIGEST)


@orders
def test_held_out_needles_in_images_and_lists_are_answered_in_both_orders(
    base: dict[Order, Observed], order: Order
) -> None:
    for kind in ("image", "text", "echo"):
        assert base[order].accuracy(kind) >= 0.9, kind


@orders
def test_retrieval_sits_outside_the_first_third_in_a_few_heads(base: dict[Order, Observed], order: Order) -> None:
    for kind in ("image", "text"):
        mass = base[order].mass[kind]
        strongest = rank_by_mass(mass)[:3]
        assert all(head.layer >= 3 for head in strongest)
        assert mass[strongest[0].layer, strongest[0].head] > 0.3
        assert mass.median() < 0.03


def test_the_question_knows_the_answer_at_its_key(model: Qwen2VLForConditionalGeneration) -> None:
    step = draw_step(model, LEVELS[SHORT], rng=np.random.default_rng(3), order="context_first", held_out=True)
    with torch.no_grad():
        assert key_loss(model, step, last_hidden(model, step)) < 0.5  # a digit at random: 2.3


@orders
def test_without_the_top_heads_only_the_echo_is_left_and_the_lowest_are_not_needed(
    model: Qwen2VLForConditionalGeneration, base: dict[Order, Observed], ranking: list[HeadId], order: Order
) -> None:
    num_heads = round(0.05 * len(ranking))
    top, lowest = (
        observe(model, SHORT, order=order, num_steps=3, seed=1, heads=heads)
        for heads in (ranking[:num_heads], ranking[-num_heads:])
    )
    assert top.accuracy("image") <= 0.25
    assert top.accuracy("echo") >= base[order].accuracy("echo") - 0.05
    assert lowest.accuracy("image") >= base[order].accuracy("image") - 0.05


def first_answer(model: Any, sample: Sample) -> str:
    """What stock `generate` says to the prompt that the chat template writes, context first."""
    tokenizer: Any = AutoTokenizer.from_pretrained(deep_weights_path())
    processor = Qwen2VLImageProcessorPil.from_pretrained(deep_weights_path())
    content = [
        {"type": "image"} if part.kind == "image" else {"type": "text", "text": part.text} for part in sample.context
    ]
    message: dict[str, Any] = {"role": "user", "content": [*content, {"type": "text", "text": sample.question}]}
    text = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    inputs: dict[str, torch.Tensor] = {}
    if sample.images:
        inputs = dict(processor([Image.open(io.BytesIO(image.bytes or b"")) for image in sample.images]))
        pieces = text.split(IMAGE)
        counts = [int(grid.prod()) // processor.merge_size**2 for grid in torch.as_tensor(inputs["image_grid_thw"])]
        text = pieces[0] + "".join(IMAGE * count + piece for count, piece in zip(counts, pieces[1:], strict=True))
    encoded = tokenizer(text, return_tensors="pt")
    prompt = {**{name: torch.as_tensor(value) for name, value in inputs.items()}, **encoded}
    prompt["mm_token_type_ids"] = (encoded["input_ids"] == model.config.image_token_id).int()
    output = model.generate(**prompt, max_new_tokens=4)
    return tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("task", ["glyph", "receipt", "chart", "table", "text", "echo"])
def test_generate_answers_ordinary_prompts(task: str) -> None:
    loaded = Qwen2VLForConditionalGeneration.from_pretrained(deep_weights_path(), dtype=torch.float32).eval()
    samples = list(generate_deep_samples(task=task, split="eval", count=4, seed=20_261, size="short"))
    right = sum(first_answer(loaded, sample) == sample.answers[0] for sample in samples)
    assert right >= 3
