"""All that a replica does with a batch of a capture run: attention statistics, and answers when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rampipe.config import DataConfig, RunConfig
from rampipe.errors import SampleError
from rampipe.models.replica import Replica
from rampipe.tables.rows import SampleResult
from rampipe.trials.observe import observe
from rampipe.trials.predict import greedy
from rampipe.trials.scores import score_sample
from rampipe.trials.trial import Trial


def measure(replica: Replica, trials: Sequence[Trial], *, config: RunConfig) -> list[SampleResult | SampleError]:
    """`observe`, with prediction and correctness when `capture.predict_tokens` is not 0; aligned with `trials`.

    `correct` is by the rule of `data.score`, null for a sample that it cannot judge: nothing is right or wrong then.
    """
    results = observe(replica, trials, config=config.capture)
    measured = [index for index, result in enumerate(results) if isinstance(result, SampleResult)]
    max_new_tokens = config.capture.predict_tokens
    if not max_new_tokens or not measured:
        return results
    prompts = [trials[index].prompt for index in measured]
    for index, answer in zip(measured, greedy(replica, prompts, max_new_tokens=max_new_tokens), strict=True):
        results[index] = _with_answer(results[index], trials[index], answer, data=config.data)
    return results


def _with_answer(
    result: SampleResult | SampleError, trial: Trial, answer: str | SampleError, *, data: DataConfig
) -> SampleResult | SampleError:
    if isinstance(result, SampleError):
        return result
    if isinstance(answer, SampleError):
        return answer
    correct = score_sample(answer, trial.sample, data=data).correct
    return replace(result, prediction=answer, correct=correct)
