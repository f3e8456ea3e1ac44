"""The committed weights, end to end: stock loading, accuracy on unseen needles, and ablation by measured RAM."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, Qwen2VLImageProcessorPil

from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.domains import DOMAIN_NAMES
from rampipe.testbed.evaluate import LoadedTestbed, accuracy_without, encode_batch, load_testbed, observe, rank_heads
from rampipe.testbed.samples import generate_samples
from rampipe.testbed.vocabulary import END
from rampipe.types import HeadId, Sample

FRESH_SEED = 20_261
MAX_WEIGHTS_BYTES = 6_000_000


def fresh(*, split: str, count: int) -> dict[str, list[Sample]]:
    return {
        name: list(generate_samples(domain=name, split=split, count=count, seed=FRESH_SEED)) for name in DOMAIN_NAMES
    }


@pytest.fixture(scope="module")
def testbed() -> Iterator[LoadedTestbed]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_testbed(weights_path())
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def ranking(testbed: LoadedTestbed) -> list[HeadId]:
    samples = [sample for group in fresh(split="select", count=16).values() for sample in group]
    return rank_heads(observe(testbed, samples).mass_last)


def test_the_folder_loads_with_stock_classes_without_missing_keys() -> None:
    folder = weights_path()
    model, loading = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(loading.values()), loading
    assert type(model).__name__ == "Qwen2VLForConditionalGeneration"
    assert AutoConfig.from_pretrained(folder).text_config.num_hidden_layers == 6
    assert (folder / "model.safetensors").stat().st_size < MAX_WEIGHTS_BYTES


def test_the_prompt_ends_with_the_question_and_any_text_has_tokens() -> None:
    tokenizer = AutoTokenizer.from_pretrained(weights_path())
    content = [
        {"type": "text", "text": "Dear reader, hello."},
        {"type": "image"},
        {"type": "text", "text": "is red-star"},
    ]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    vision = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]
    assert tokens == ["<|user|>", "<unk>", "<unk>", "<unk>", *vision, "is", "red-star"]
    start, stop = encoded["offset_mapping"][-1]
    assert prompt[start:stop] == "red-star"
    assert stop == len(prompt)
    assert tokenizer.decode(tokenizer("4 7 <|end|>")["input_ids"], skip_special_tokens=True) == "4 7"


@pytest.mark.parametrize(("side", "num_tokens"), [(64, 4), (256, 64), (4000, 961)])
def test_images_keep_their_size_up_to_a_bound(side: int, num_tokens: int) -> None:
    processor = Qwen2VLImageProcessorPil.from_pretrained(weights_path())
    grid = processor(np.zeros((side, side, 3), np.uint8), return_tensors="pt")["image_grid_thw"][0]
    assert int(grid.prod()) // processor.merge_size**2 == num_tokens


def test_held_out_needles_are_answered_in_every_domain(testbed: LoadedTestbed) -> None:
    for name, samples in fresh(split="eval", count=64).items():
        assert observe(testbed, samples).correct.mean() >= 0.95, name


def test_generate_gives_the_answers_that_the_teacher_forced_pass_counts(testbed: LoadedTestbed) -> None:
    samples = [group[0] for group in fresh(split="eval", count=1).values()]
    for sample in samples:
        inputs = encode_batch(testbed, [sample])
        prompt = {key: inputs[key][:, :-3] for key in ("input_ids", "attention_mask", "mm_token_type_ids")}
        output = testbed.model.generate(**{**inputs, **prompt}, max_new_tokens=4)
        text = testbed.tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=False)
        assert (text == f"{sample.answers[0]} {END}") == bool(observe(testbed, [sample]).correct[0])


def test_removing_the_top_heads_kills_the_task_and_the_bottom_heads_do_not(
    testbed: LoadedTestbed, ranking: list[HeadId]
) -> None:
    samples = [sample for group in fresh(split="eval", count=24).values() for sample in group]
    num_heads = round(0.05 * len(ranking))
    base = accuracy_without(testbed, samples, [])
    assert accuracy_without(testbed, samples, ranking[:num_heads]) <= 0.10
    assert accuracy_without(testbed, samples, ranking[-num_heads:]) >= base - 0.02
    assert accuracy_without(testbed, samples, []) == base


def test_half_of_the_other_heads_of_every_layer_are_not_needed_and_the_first_three_are(
    testbed: LoadedTestbed, ranking: list[HeadId]
) -> None:
    samples = [sample for group in fresh(split="eval", count=24).values() for sample in group]
    others = ranking[round(0.05 * len(ranking)) :]
    base = accuracy_without(testbed, samples, [])
    assert accuracy_without(testbed, samples, [head for head in others if head.head % 2]) >= base - 0.05
    assert accuracy_without(testbed, samples, [head for head in others if head.head % 2 == 0]) >= base - 0.05
    assert accuracy_without(testbed, samples, ranking[:3]) <= 0.10
