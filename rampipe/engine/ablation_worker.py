"""One replica at an ablation: the same samples in every arm of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from rampipe.attention.silence import HeadMeans
from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.worker import Worker
from rampipe.errors import SampleError
from rampipe.tables.arms import plan_from_json
from rampipe.tables.unit_kind import ABLATION, UnitKind
from rampipe.trials.ablation import ablate
from rampipe.trials.reference import reference_means
from rampipe.trials.trial import Trial, prepare
from rampipe.types import Sample

ARMS_PATH = "plan.json"


class AblationWorker(Worker):
    """Loads the model and the plan of arms once; units are rows of `ablate.split`."""

    KIND: ClassVar[UnitKind[Any]] = ABLATION
    SHARES_CONTEXT: ClassVar[bool] = False

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        """config: as `ablation_config` makes it, whose `data.split` is still the ranked one."""
        evaluated = config.data.model_copy(update={"split": config.ablate.split})
        super().__init__(config.model_copy(update={"data": evaluated}), run_uri=run_uri, fingerprint=fingerprint)
        self._plan = plan_from_json(self._storage.read(ARMS_PATH), source=f"{run_uri}/{ARMS_PATH}")
        self._means = self._reference(config) if any(arm.mode == "mean" for arm in self._plan.arms) else None

    def _prepare(self, sample: Sample | SampleError) -> Trial | SampleError:
        """With the first answer teacher-forced, when there is one."""
        if isinstance(sample, SampleError):
            return sample
        queries = ("answer",) if sample.answers else ("last",)
        capture = self._config.capture.model_copy(update={"queries": queries})
        try:
            config = self._config.model_copy(update={"capture": capture})
            return prepare(self._replica, sample, config=config, images=self._images)
        except SampleError as error:
            return error

    def _measure(self, trials: Sequence[Trial]) -> Sequence[Any]:
        return ablate(self._replica, trials, self._plan, config=self._config, means=self._means)

    def _reference(self, config: RunConfig) -> HeadMeans:
        """Means over the first samples of the ranked split that can be encoded."""
        trials = islice(self._ranked_trials(config), config.ablate.reference_samples)
        return reference_means(self._replica, list(trials), batch_tokens=config.capture.batch_tokens)

    def _ranked_trials(self, config: RunConfig) -> Iterator[Trial]:
        source = open_source(config.data)
        for shard in source.shards():
            for read in source.read(shard.path, 0, shard.num_rows):
                trial = self._prepare(read.sample)
                if isinstance(trial, Trial):
                    yield trial
