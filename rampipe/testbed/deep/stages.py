"""One stage of training, from its last checkpoint on: a stage that was interrupted goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.deep.architecture import NUM_FRESH_LAYERS, SMALL_ROPE_BASE, set_rope_base
from rampipe.testbed.deep.curriculum import LEVELS, REVISIT_FRAC, Curriculum, Level
from rampipe.testbed.deep.hop import update_hop
from rampipe.testbed.deep.language import Step, draw_step, evidence_masses, update
from rampipe.testbed.deep.state import optimizer_tensors, read_state, restore_optimizer, under, write_state
from rampipe.testbed.head_dropout import HeadDropout
from rampipe.testbed.language import ADAMW_RATE, FREE_SHARPNESS, MUON_RATE, make_optimizers
from rampipe.testbed.parts import decoder_layers, language_model
from rampipe.types import HeadId

REPORT_EVERY_STEPS = 20
SAVE_EVERY_STEPS = 50
NUM_WARMUP_STEPS = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """rates: shares of the small model's learning rates at the first and the last step; linear between them."""

    name: str
    num_steps: int
    levels: tuple[int, int]
    """First and last level of the curriculum."""
    rates: tuple[float, float]
    seed: int
    hop_only: bool = False
    """Trains the fresh blocks alone, to bring the key to the last prompt row: `update_hop`."""
    more_entries: int = 0
    """List entries of every context beyond what its level says."""
    questions_factor: int = 1
    """Times the questions of every context that its level says."""
    revisit_frac: float = REVISIT_FRAC
    """Share of steps at a smaller level than the current one."""
    by_parts_frac: float | None = None
    """In place of the levels': share of steps in which the rows of a part see no image but their own, yet all text. The
    others see whole contexts, as in ordinary prompts, at several times the cost."""
    rope_base: float = SMALL_ROPE_BASE
    """Of the rotary frequencies: the small model's, or a higher one, with which heads find what is far away."""
    binding: bool = False
    """Adds the loss that lets list entries look like items of images: `binding_loss`."""
    head_dropout: bool = False
    """Silences heads that do not look sharply at items, so that no single one of them is needed."""
    asks_key: bool = False
    """Adds the loss that asks for the answer's first token at the question's key already: `key_loss`."""
    is_half: bool = True
    """In bfloat16 autocast; else in float32."""
    from_half: bool = False
    """Begins with the weights of the stage before it rounded to half precision, as a checkpoint has them."""
    price: float = 0.0
    """Loss for a head that looks sharply at items, so that few do."""

    def rate_frac(self, step: int) -> float:
        """Share of the full learning rates at a step, after a short rise."""
        first, last = self.rates
        return min(1.0, (step + 1) / NUM_WARMUP_STEPS) * (first + (last - first) * step / self.num_steps)

    def asked(self, level: int) -> Level:
        """A level as this stage asks it."""
        asked = LEVELS[level].with_entries(self.more_entries).with_questions(self.questions_factor)
        if self.by_parts_frac is None:
            return asked
        return replace(asked, by_parts_frac=self.by_parts_frac, sight_of_parts="text")


class Progress:
    """All that a stage needs to go on: weights, optimizers, curriculum, random numbers, steps done."""

    def __init__(self, model: Qwen2VLForConditionalGeneration, stage: Stage) -> None:
        self.model = model
        self.stage = stage
        self.optimizers = make_optimizers(model)
        language_model(model).requires_grad_(not stage.hop_only)
        for layer in decoder_layers(model)[:NUM_FRESH_LAYERS]:
            layer.requires_grad_(True)
        first, last = stage.levels
        self.curriculum = Curriculum(level=first, last=last, revisit_frac=stage.revisit_frac)
        self.rng = np.random.default_rng([stage.seed, 7])
        self.dropout = HeadDropout(model, free_sharpness=FREE_SHARPNESS, rng=self.rng)
        self.step = 0

    def save(self, path: Path) -> None:
        """Writes the checkpoint whole or not at all."""
        tensors = {f"model.{name}": weight for name, weight in language_model(self.model).state_dict().items()}
        for place, optimizer in enumerate(self.optimizers):
            tensors |= {f"optimizer{place}.{name}": tensor for name, tensor in optimizer_tensors(optimizer)}
        if self.dropout.sharpness is not None:
            tensors["sharpness"] = self.dropout.sharpness
        numbers = {
            "step": self.step,
            "level": self.curriculum.level,
            "accuracy": self.curriculum.accuracy,
            "rng": self.rng.bit_generator.state,
        }
        write_state(path, tensors, numbers)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint of the same stage."""
        tensors, numbers = read_state(path)
        language_model(self.model).load_state_dict(under("model.", tensors))
        for place, optimizer in enumerate(self.optimizers):
            restore_optimizer(optimizer, under(f"optimizer{place}.", tensors))
        self.dropout.sharpness = tensors.get("sharpness")
        self.step = numbers["step"]
        self.curriculum.level, self.curriculum.accuracy = numbers["level"], numbers["accuracy"]
        self.rng.bit_generator.state = numbers["rng"]


class Averages:
    """Running accuracies, by level, order and kind, for the log alone."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def record(self, name: str, accuracy: dict[str, float]) -> None:
        """Takes the accuracies of one batch."""
        for kind, value in accuracy.items():
            past = self.values.get(f"{name}{kind}", value)
            self.values[f"{name}{kind}"] = 0.8 * past + 0.2 * value

    def __str__(self) -> str:
        return " ".join(f"{name} {value:.2f}" for name, value in sorted(self.values.items()))


def run_stage(
    model: Qwen2VLForConditionalGeneration, stage: Stage, folder: Path, *, report: Callable[[str], None] = print
) -> None:
    """Trains the model in place. `<stage>.safetensors` in the folder is its state; a finished stage is only loaded."""
    path = folder / f"{stage.name}.safetensors"
    set_rope_base(model, stage.rope_base)
    progress = Progress(model, stage)
    if path.exists():
        progress.load(path)
        report(f"{stage.name}: on from step {progress.step}")
    elif stage.from_half:
        with torch.no_grad():
            for weight in language_model(model).parameters():
                weight.copy_(weight.half())
    averages = Averages()
    while progress.step < stage.num_steps:
        train_step(progress, averages, report=report)
        if progress.step % SAVE_EVERY_STEPS == 0 or progress.step == stage.num_steps:
            progress.save(path)


def train_step(progress: Progress, averages: Averages, *, report: Callable[[str], None]) -> None:
    """One step of the stage."""
    stage, curriculum = progress.stage, progress.curriculum
    frac = stage.rate_frac(progress.step)
    for optimizer, full_rate in zip(progress.optimizers, (MUON_RATE, ADAMW_RATE), strict=True):
        optimizer.param_groups[0]["lr"] = full_rate * frac
    level = curriculum.draw_level(progress.rng)
    step = draw_step(progress.model, stage.asked(level), rng=progress.rng)
    silenced = progress.dropout.active(num_images=len(step.contents)) if stage.head_dropout else nullcontext()
    if stage.hop_only:
        accuracy = update_hop(progress.model, step, optimizers=progress.optimizers)
    else:
        with silenced:
            accuracy, per_head = update(
                progress.model,
                step,
                optimizers=progress.optimizers,
                price=stage.price,
                asks_key=stage.asks_key,
                is_half=stage.is_half,
                binding_rng=progress.rng if stage.binding else None,
            )
        if "image" in accuracy:
            progress.dropout.record(per_head)
    progress.step += 1
    if level == curriculum.level:
        averages.record("qf." if step.order == "question_first" else "cf.", accuracy)
    if "image" in accuracy and curriculum.record(level, accuracy["image"]):
        report(f"{stage.name} {progress.step}: level {curriculum.level}, {averages}")
        averages.values.clear()
    if progress.step % REPORT_EVERY_STEPS == 0:
        report(f"{stage.name} {progress.step}/{stage.num_steps} level {curriculum.level} {averages}")
        if not stage.hop_only:
            report(f"    RAM image {strongest(step, 'image')} text {strongest(step, 'text')}")


def strongest(step: Step, kind: str, count: int = 6) -> str:
    """The heads that look most at what a kind of question asks for, in one batch."""
    masses = evidence_masses(step, kind)
    if masses is None:
        return "-"
    order = masses.flatten().argsort(descending=True)[:count].tolist()
    return " ".join(f"{HeadId(*divmod(head, masses.shape[1]))}={masses.flatten()[head]:.2f}" for head in order)
