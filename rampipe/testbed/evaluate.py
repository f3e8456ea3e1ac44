"""Measures a testbed checkpoint with eager attention: accuracy, head masses, ablation.

    python -m rampipe.testbed.evaluate                       # the weights that ship with the package
    python -m rampipe.testbed.evaluate --folder runs/retrained --count 96

It shares no code with the capture and ablation that users run, so that it can be their oracle.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.domains import DOMAIN_NAMES
from rampipe.testbed.haystack import CELL_PX
from rampipe.testbed.parts import decoder_layers, text_config
from rampipe.testbed.samples import generate_samples
from rampipe.testbed.vocabulary import END, IMAGE
from rampipe.types import HeadId, Sample

BATCH_SIZE = 32
NUM_ANSWER_TOKENS = 3


@dataclass(frozen=True, slots=True)
class Observed:
    """What one pass over samples showed. mass_*: attention on the evidence cell, by sample, layer and head."""

    correct: Bool[np.ndarray, " sample"]
    mass_last: Float[np.ndarray, "sample layer head"]
    mass_question: Float[np.ndarray, "sample layer head"]


@dataclass(frozen=True, slots=True)
class LoadedTestbed:
    """A loaded checkpoint, eager and in float32, with what encodes its prompts."""

    model: Qwen2VLForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    image_processor: Qwen2VLImageProcessorPil


def load_testbed(folder: Path) -> LoadedTestbed:
    """Loads a checkpoint folder with stock classes."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return LoadedTestbed(
        model=model.eval(),
        tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
        image_processor=Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True),
    )


def encode_batch(testbed: LoadedTestbed, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Prompts followed by their reference answers and the end token. All must be equally long (one grid size)."""
    images: list[Image.Image] = [Image.open(io.BytesIO(sample.images[0].bytes or b"")) for sample in samples]
    inputs: dict[str, Tensor] = dict(testbed.image_processor(images, return_tensors="pt"))
    texts: list[str] = []
    for sample, grid in zip(samples, inputs["image_grid_thw"], strict=True):
        content = [{"type": "image"}, {"type": "text", "text": sample.question}]
        message: dict[str, Any] = {"role": "user", "content": content}
        prompt = testbed.tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        num_cells = int(grid.prod()) // testbed.image_processor.merge_size**2
        texts.append(f"{str(prompt).replace(IMAGE, IMAGE * num_cells)} {sample.answers[0]} {END}")
    encoded = testbed.tokenizer(texts, return_tensors="pt")
    is_image = encoded["input_ids"] == testbed.model.config.image_token_id
    inputs["mm_token_type_ids"] = is_image.to(torch.int32)
    return {**inputs, "input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def evidence_keys(inputs: Mapping[str, Tensor], samples: Sequence[Sample], *, is_image: Tensor) -> list[int]:
    """The key position of each sample's evidence cell."""
    keys: list[int] = []
    for row, sample in enumerate(samples):
        x0, y0, _, _ = sample.evidence[0].box or (0.0, 0.0, 0.0, 0.0)
        num_columns = int(inputs["image_grid_thw"][row, 2]) // 2
        cell = int(y0) // CELL_PX * num_columns + int(x0) // CELL_PX
        keys.append(int(is_image[row].nonzero()[cell]))
    return keys


def observe_batch(testbed: LoadedTestbed, samples: Sequence[Sample]) -> Observed:
    """One teacher-forced pass. All argmaxes right is the same as greedy decoding giving the reference."""
    inputs = encode_batch(testbed, samples)
    with torch.no_grad():
        outputs = testbed.model(**inputs, output_attentions=True, use_cache=False)
    ids = inputs["input_ids"]
    predicted = outputs.logits[:, -1 - NUM_ANSWER_TOKENS : -1].argmax(-1)
    keys = torch.tensor(evidence_keys(inputs, samples, is_image=inputs["mm_token_type_ids"] == 1))
    question_start = int(inputs["mm_token_type_ids"][0].nonzero().max()) + 2
    question = slice(question_start, ids.shape[1] - NUM_ANSWER_TOKENS)
    attention = torch.stack(outputs.attentions, dim=1)[:, :, :, question]
    index = keys.view(-1, 1, 1, 1, 1).expand(*attention.shape[:-1], 1)
    mass = attention.gather(-1, index)[..., 0].numpy()
    correct = (predicted == ids[:, -NUM_ANSWER_TOKENS:]).all(-1).numpy()
    return Observed(correct=correct, mass_last=mass[..., -1], mass_question=mass.mean(axis=-1))


def observe(testbed: LoadedTestbed, samples: Sequence[Sample]) -> Observed:
    """`observe_batch` over any number of samples."""
    starts = range(0, len(samples), BATCH_SIZE)
    parts = [observe_batch(testbed, samples[start : start + BATCH_SIZE]) for start in starts]
    return Observed(
        correct=np.concatenate([part.correct for part in parts]),
        mass_last=np.concatenate([part.mass_last for part in parts]),
        mass_question=np.concatenate([part.mass_question for part in parts]),
    )


@contextmanager
def silenced(model: Qwen2VLForConditionalGeneration, heads: Sequence[HeadId]) -> Generator[None]:
    """Zeroes the heads' slices of the input of o_proj while the context lasts."""
    head_dim = text_config(model.config).hidden_size // text_config(model.config).num_attention_heads

    def make_hook(layer: int) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
        slices = [slice(h.head * head_dim, (h.head + 1) * head_dim) for h in heads if h.layer == layer]

        def hook(_module: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
            hidden = arguments[0].clone()
            for piece in slices:
                hidden[..., piece] = 0
            return (hidden,)

        return hook

    handles = [
        layer.self_attn.o_proj.register_forward_pre_hook(make_hook(index))
        for index, layer in enumerate(decoder_layers(model))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rank_heads(mass: Float[np.ndarray, "sample layer head"]) -> list[HeadId]:
    """Heads by mean mass, largest first."""
    mean = mass.mean(axis=0)
    order = np.argsort(-mean, axis=None, kind="stable")
    return [HeadId(*divmod(int(flat), mean.shape[1])) for flat in order]


def accuracy_without(testbed: LoadedTestbed, samples: Sequence[Sample], heads: Sequence[HeadId]) -> float:
    """Accuracy with heads silenced."""
    with silenced(testbed.model, heads):
        return float(observe(testbed, samples).correct.mean())


def main() -> None:
    """Prints accuracy by domain, the strongest heads and the ablation table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=weights_path(), help="checkpoint folder")
    parser.add_argument("--count", type=int, default=64, help="samples of each domain and split")
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples")
    options = parser.parse_args()
    testbed = load_testbed(options.folder)
    splits = {
        split: [
            list(generate_samples(domain=name, split=split, count=options.count, seed=options.seed))
            for name in DOMAIN_NAMES
        ]
        for split in ("select", "eval")
    }
    for name, samples in zip(DOMAIN_NAMES, splits["eval"], strict=True):
        print(f"accuracy {name} {observe(testbed, samples).correct.mean():.3f}", flush=True)
    selected = observe(testbed, list(chain.from_iterable(splits["select"])))
    ranking = rank_heads(selected.mass_last)
    for label, mass in (("last", selected.mass_last), ("question", selected.mass_question)):
        mean = mass.mean(axis=0)
        print(f"RAM {label}", " ".join(f"{head}={mean[head.layer, head.head]:.3f}" for head in rank_heads(mass)[:10]))
    held_out = list(chain.from_iterable(splits["eval"]))
    rng = np.random.default_rng(options.seed)
    print(f"ablation base {accuracy_without(testbed, held_out, []):.3f}", flush=True)
    for frac in (0.02, 0.05, 0.1, 0.25):
        num_heads = round(frac * len(ranking))
        random = [ranking[index] for index in rng.permutation(len(ranking))[:num_heads]]
        arms = {"top": ranking[:num_heads], "bottom": ranking[-num_heads:], "random": random}
        shown = " ".join(f"{arm} {accuracy_without(testbed, held_out, heads):.3f}" for arm, heads in arms.items())
        print(f"ablation {num_heads} heads: {shown}", flush=True)


if __name__ == "__main__":
    main()
