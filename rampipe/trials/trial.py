"""One sample made ready for a replica: its prompt, and the same context with the null question."""

from __future__ import annotations

from dataclasses import dataclass

from rampipe.config import RunConfig
from rampipe.errors import SampleError
from rampipe.models.prompts import NULL_QUESTION, Prompt, encode
from rampipe.models.replica import Replica
from rampipe.trials.context import context_key
from rampipe.trials.context_images import ContextImages
from rampipe.types import Sample


@dataclass(frozen=True, slots=True)
class Trial:
    """A sample and its prompts, on the CPU. `null_prompt` is None when nothing is calibrated."""

    sample: Sample
    context_key: str
    prompt: Prompt
    null_prompt: Prompt | None

    @property
    def num_tokens(self) -> int:
        """Tokens of the longer prompt, teacher-forced answer included: what a batch is budgeted by."""
        lengths = [len(prompt.input_ids) for prompt in (self.prompt, self.null_prompt) if prompt is not None]
        return max(lengths)


def prepare(replica: Replica, sample: Sample, *, config: RunConfig, images: ContextImages | None = None) -> Trial:
    """Decode and encode one sample. The images are processed once for both prompts.

    images: of the sample before, which may have the same.
    The first answer is teacher-forced when `answer` rows are asked for: those after the prompt see it, no others do.
    Raises SampleError of stage decode, encode or regions; code `answer_missing` when there is no answer to force.
    """
    images = images or ContextImages(replica, max_pixels=config.capture.max_pixels)
    features = images.of(sample)
    answer = _reference_answer(sample) if "answer" in config.capture.queries else None
    null_prompt = None
    if config.capture.calibrate and "question" in config.capture.queries:
        null_prompt = encode(
            replica,
            sample,
            features,
            question=NULL_QUESTION,
            evidence=config.evidence,
            order=config.prompt.order,
        )
    prompt = encode(replica, sample, features, answer=answer, evidence=config.evidence, order=config.prompt.order)
    return Trial(sample, context_key(sample), prompt, null_prompt)


def _reference_answer(sample: Sample) -> str:
    if not sample.answers:
        raise SampleError(
            f"sample {sample.sample_id}: has no answer, and capture.queries asks for `answer` rows. Add one, or leave "
            "`answer` out. Sample skipped.",
            stage="encode",
            code="answer_missing",
        )
    return sample.answers[0]
