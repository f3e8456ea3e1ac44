"""One experiment on a run: every sample of the evaluated split in every arm, in `<run>/ablation/<fingerprint>/`, or
in `<run>/speed/answers/<fingerprint>/` for the arms that keep heads.

A run of its own kind, committed, resumed and finished like a capture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.capture import Announce, CaptureOutcome, complete_run
from rampipe.engine.plan import cut_units, make_ablation_spec
from rampipe.errors import ConfigError
from rampipe.models.identity import model_identity
from rampipe.tables.arms import ArmPlan, plan_to_json
from rampipe.tables.fingerprint import differing_keys
from rampipe.tables.run import Run, create_run, open_run_dir

FOLDER = "ablation"


def run_ablation(  # noqa: PLR0913 - what is run, where it goes, and who does it
    config: RunConfig,
    run_uri: str,
    plan: ArmPlan,
    *,
    folder: str = FOLDER,
    split: str | None = None,
    announce: Announce = print,
    worker_class: Callable[..., Any] | None = None,
) -> CaptureOutcome:
    """Run what is not committed yet and finish; Ray is not started when nothing is left. `run_uri` of the outcome is
    the folder of the outcomes.

    folder: below the run. split: the evaluated one, in place of `ablate.split`.
    Raises ConfigError when the configuration does not fit the run or lacks what an ablation needs, ClusterError when
    the work cannot be done, IncompleteError for more errors than `cluster.max_error_frac` allows.
    """
    config = ablation_config(config, split=split)
    run = create_ablation(config, run_uri, plan, folder=folder)

    def worker() -> tuple[Callable[..., Any], dict[str, Any]]:
        from rampipe.engine.ablation_worker import AblationWorker

        arguments = {"config": config, "run_uri": run.storage.uri, "fingerprint": run.fingerprint}
        return worker_class or AblationWorker, arguments

    return complete_run(config, run, worker=worker, announce=announce)


def create_ablation(config: RunConfig, run_uri: str, plan: ArmPlan, *, folder: str = FOLDER) -> Run:
    """The folder of an ablation below its run, created or opened, with plan.json in it. config: `ablation_config`'s."""
    parent = open_run_dir(run_uri)
    differing = differing_keys(parent.inputs["model"], model_identity(config.model, on_gpu=config.cluster.on_gpu))
    if differing:
        raise ConfigError(
            f"model.path {config.model.path}: not the checkpoint of run {parent.run_id} "
            f"({', '.join(list(differing)[:5])} differ). Ablate the model whose heads were ranked."
        )
    spec = make_ablation_spec(config, plan)
    storage = parent.storage.child(folder)
    run = create_run(storage, spec, run_id=spec.fingerprint[:12])
    run.storage.publish("plan.json", plan_to_json(plan))
    return run


def ablation_config(config: RunConfig, *, split: str | None = None) -> RunConfig:
    """The configuration with what an ablation does not need left out, and `split` as `ablate.split` when it is given.

    Raises ConfigError for what it lacks.
    """
    key, evaluated = ("ablate.split", config.ablate.split) if split is None else ("speed.split", split)
    if evaluated is None:
        raise ConfigError("ablate.split is not set: name the split that is evaluated, another than the ranked one.")
    if evaluated == config.data.split and not config.ablate.allow_same_samples:
        raise ConfigError(
            f"{key} {evaluated!r} is the ranked split: heads would be judged on what they were chosen by. Name another "
            "split, or set ablate.allow_same_samples = true."
        )
    if not config.capture.predict_tokens:
        raise ConfigError("capture.predict_tokens is 0: an ablation judges answers. Set it to the longest answer.")
    if split is None and "after_context" in config.ablate.positions and config.prompt.order != "context_first":
        raise ConfigError(
            f"ablate.positions names after_context, and prompt.order is {config.prompt.order!r}: nothing but the "
            "answer follows the context then. Use prompt.order = context_first, or positions all or decode."
        )
    capture = config.capture.model_copy(update={"calibrate": False, "queries": ("last",)})
    ablate = config.ablate.model_copy(update={"split": evaluated})
    return config.model_copy(update={"capture": capture, "ablate": ablate})


def evaluated_ids(config: RunConfig, *, split: str | None = None) -> Iterator[str]:
    """Ids of all samples of the evaluated split, `ablate.split` unless it is given; no image is read."""
    evaluated = config.data.model_copy(update={"split": split or config.ablate.split})
    source = open_source(evaluated)
    shards = source.shards()
    whole = max((shard.num_rows for shard in shards), default=0) or 1
    for unit in cut_units(shards, unit_samples=whole, limit=evaluated.limit)[0]:
        yield from source.read_ids(unit.shard, unit.row_start, unit.row_stop)
