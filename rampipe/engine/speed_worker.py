"""One replica at one arm: timed beside dense attention at every length, in a process that has done nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.device import Turn
from rampipe.engine.events import SkippedRow
from rampipe.engine.speed import PLAN_PATH
from rampipe.engine.worker import Outcome, Worker, skip_error
from rampipe.errors import DataError, SampleError
from rampipe.models.prompts import Prompt
from rampipe.tables.arms import Arm, plan_from_json
from rampipe.tables.timings import ArmTimings, timing_id
from rampipe.tables.unit_kind import TIMINGS, UnitKind
from rampipe.trials.timing import time_arm
from rampipe.trials.timing_prompt import stretch
from rampipe.trials.trial import Trial
from rampipe.types import Unit

MAX_TRIED = 256
"""Samples that are looked at for one with an image."""


class SpeedWorker(Worker):
    """Loads the model and the plan once; units are arms, their rows are lengths of the context."""

    KIND: ClassVar[UnitKind[Any]] = TIMINGS

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        """config: as `speed_config` makes it. Raises DataError when no sample can give the pattern of a prompt."""
        super().__init__(config, run_uri=run_uri, fingerprint=fingerprint)
        self._plan = plan_from_json(self._storage.read(PLAN_PATH), source=f"{run_uri}/{PLAN_PATH}")
        self._prompt = self._pattern()

    def _outcomes(self, unit: Unit, rows: range, skip: Sequence[SkippedRow]) -> tuple[list[Outcome], Turn]:
        """Every length once, in order."""
        arm, skipped = self._plan.arm(unit.shard), {row.row: row for row in skip}
        outcomes = list[Outcome]()
        with self._device.turn(arrived_s=time.monotonic()) as turn, turn.forward():
            for row in rows:
                context_tokens = self._config.speed.context_tokens[row]
                sample_id = timing_id(arm.arm_id, context_tokens)
                if row in skipped:
                    outcomes.append(Outcome(row, sample_id, skip_error(sample_id, skipped[row])))
                else:
                    outcomes.append(Outcome(row, sample_id, self._timed(arm, context_tokens)))
        return outcomes, turn

    def _timed(self, arm: Arm, context_tokens: int) -> ArmTimings | SampleError:
        try:
            prompt = stretch(self._prompt, context_tokens=context_tokens)
            return time_arm(self._replica, arm, settings=self._plan.settings, config=self._config.speed, prompt=prompt)
        except SampleError as error:
            return error

    def _pattern(self) -> Prompt:
        """The first prompt of the split with visual tokens; without any, the first one."""
        found = list[Prompt]()
        for trial in islice(self._trials(), MAX_TRIED):
            if isinstance(trial, Trial):
                found.append(trial.prompt)
                if len(trial.prompt.visual_positions):
                    return trial.prompt
        if not found:
            raise DataError(
                f"data.path {self._config.data.path}: none of the first {MAX_TRIED} samples of split "
                f"{self._config.data.split!r} can be encoded. Check speed.split."
            )
        return found[0]

    def _trials(self) -> Iterator[Trial | SampleError]:
        source = open_source(self._config.data)
        for shard in source.shards():
            for read in source.read(shard.path, 0, shard.num_rows):
                yield self._prepare(read.sample)
