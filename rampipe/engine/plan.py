"""What a run will do, before any device is used: its units, its fingerprint and how much it will write."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rampipe.config import DataConfig, RunConfig
from rampipe.data import Shard, Source, open_source
from rampipe.errors import DataError
from rampipe.models.checkpoint import find_checkpoint
from rampipe.models.identity import model_identity, model_slug
from rampipe.tables.arms import ArmPlan
from rampipe.tables.commit import CommitRecord
from rampipe.tables.run import RunSpec
from rampipe.tables.schema import load_schema
from rampipe.tables.unit_kind import CAPTURE
from rampipe.trials.scores import score_identity
from rampipe.types import Unit

BATCH_RULE = "windows of 4 x batch_tokens in order, up to a new context, within a window by length, a context once"
"""Part of the fingerprint: padding changes the last bits of a result, so who shares a batch must never change."""

_TEXT_BYTES = 4
"""A repeated text costs a dictionary code per row."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left of a run. `num_bytes`: head_stats before compression. `seconds`: None until a unit was timed."""

    num_units: int
    num_samples: int
    num_rows: int
    num_bytes: int
    seconds: float | None


def make_spec(config: RunConfig, source: Source) -> RunSpec:
    """Units and fingerprint of a run. Reads every shard's footer and every weight file once.

    Raises DataError when there is no sample, ModelError when the checkpoint cannot be read.
    """
    units, shards = cut_units(source.shards(), unit_samples=config.capture.unit_samples, limit=config.data.limit)
    if not units:
        raise DataError(
            f"data.path {config.data.path}: no sample in split {config.data.split!r}. Check data.path and data.split."
        )
    return RunSpec(
        model_slug=model_slug(config.model),
        dataset_slug=_dataset_slug(config.data),
        inputs={**_inputs(config, shards), **_layers_without_rows(config), **_stop_inputs(config)},
        units=units,
        queries=config.capture.queries,
        num_heads=count_heads(config),
    )


def cut_units(
    shards: Iterable[Shard], *, unit_samples: int, limit: int | None = None
) -> tuple[tuple[Unit, ...], list[Shard]]:
    """Units of at most `unit_samples` rows within one shard, and the shards that they touch.

    limit: samples in all; the first ones are taken.
    """
    units, touched, left = list[Unit](), list[Shard](), limit
    for shard in shards:
        num_rows = shard.num_rows if left is None else min(left, shard.num_rows)
        for start in range(0, num_rows, unit_samples):
            units.append(Unit(len(units), shard.path, start, min(start + unit_samples, num_rows)))
        touched += [shard] if num_rows else []
        left = None if left is None else left - num_rows
    return tuple(units), touched


def make_ablation_spec(config: RunConfig, plan: ArmPlan) -> RunSpec:
    """Units and fingerprint of an ablation; `config` is that of `ablation_config`.

    Raises DataError when there is no sample in the evaluated split, ModelError when the checkpoint cannot be read.
    """
    split = config.ablate.split
    evaluated = config.data.model_copy(update={"split": split})
    units, shards = cut_units(
        open_source(evaluated).shards(), unit_samples=config.capture.unit_samples, limit=evaluated.limit
    )
    if not units:
        raise DataError(f"data.path {config.data.path}: no sample in split {split!r}. Check ablate.split.")
    inputs = _inputs(config.model_copy(update={"data": evaluated}), shards)
    used = ("predict_tokens", "unit_samples", "batch_tokens", "max_pixels", "batch_rule")
    inputs["capture"] = {name: inputs["capture"][name] for name in used}
    inputs["arms"] = {"plan_sha256": plan.sha256, "ranking_sha256": plan.ranking_sha256}
    if any(arm.mode == "mean" for arm in plan.arms):
        reference = open_source(config.data).shards()
        inputs["reference"] = {
            "samples": config.ablate.reference_samples,
            "shards": {shard.path: shard.digest for shard in reference},
        }
    return RunSpec(
        model_slug=model_slug(config.model),
        dataset_slug=_dataset_slug(evaluated),
        inputs=inputs,
        units=units,
        queries=(),
        num_heads=0,
        num_arms=len(plan.arms),
    )


def count_heads(config: RunConfig) -> int:
    """(layer, head) pairs that are captured, from the checkpoint's configuration alone.

    Raises ConfigError when capture.layers names a layer without softmax attention.
    """
    from rampipe.attention.layers import softmax_layers

    text = _decoder_config(config)
    return len(softmax_layers(text, config.capture.layers)) * text.num_attention_heads


def _layers_without_rows(config: RunConfig) -> dict[str, str]:
    """What `run.json` says of a decoder with other layers than softmax attention: these have no weights to be read."""
    from rampipe.attention.layers import ranges, softmax_layers

    text = _decoder_config(config)
    others = sorted({*range(text.num_hidden_layers)} - {*softmax_layers(text)})
    return {"layers_without_softmax_attention": ranges(others)} if others else {}


def count_kv_heads(config: RunConfig) -> int | None:
    """kv_heads of a layer of the decoder, from the checkpoint's configuration alone; None where its layers differ."""
    from transformers.integrations.heterogeneity.configuration_utils import AmbiguousGlobalPerLayerAttributeError

    text = _decoder_config(config)
    try:
        return getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    except AmbiguousGlobalPerLayerAttributeError:
        return None


def _decoder_config(config: RunConfig) -> Any:
    from transformers import AutoConfig

    checkpoint = find_checkpoint(config.model)
    found = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False, local_files_only=True)
    return found.get_text_config(decoder=True)


def estimate(spec: RunSpec, commits: Mapping[int, CommitRecord], *, num_replicas: int | None) -> Estimate:
    """What is left, after `commits`. The time is from their own seconds, for `num_replicas` that work in parallel."""
    todo = [unit for unit in spec.units if unit.unit_id not in commits]
    num_samples = sum(unit.num_samples for unit in todo)
    num_rows = num_samples * len(spec.queries) * spec.num_heads
    timed = [
        commit.seconds / (commit.num_ok + commit.num_errors)
        for commit in commits.values()
        if commit.num_ok + commit.num_errors
    ]
    seconds = statistics.median(timed) * num_samples / num_replicas if timed and num_replicas else None
    return Estimate(len(todo), num_samples, num_rows, num_rows * row_bytes(), seconds)


def row_bytes() -> int:
    """Bytes of a row of head_stats before compression."""
    types = (column.type for column in load_schema(CAPTURE.schemas["head_stats"]).columns)
    return sum(kind.bit_width // 8 if str(kind) != "string" else _TEXT_BYTES for kind in types)


def _dataset_slug(config: DataConfig) -> str:
    name = PurePosixPath(config.path.rstrip("/")).name if config.source == "samples" else config.source
    return "-".join(part for part in (name or config.source, config.split) if part)


def _inputs(config: RunConfig, shards: Sequence[Shard]) -> dict[str, Any]:
    """Everything that changes numbers; where things are and how many replicas work does not."""
    capture = config.capture.model_dump(mode="json", exclude={"queries"})
    data: dict[str, Any] = {
        "source": config.data.source,
        "shards": {
            shard.path: {"rows": shard.num_rows, "bytes": shard.num_bytes, "digest": shard.digest} for shard in shards
        },
    }
    if config.capture.predict_tokens:
        data["score"] = score_identity(config.data)
    return {
        "model": model_identity(config.model, on_gpu=config.cluster.on_gpu),
        "data": data,
        "prompt": config.prompt.model_dump(mode="json"),
        "evidence": config.evidence.model_dump(mode="json"),
        "capture": {**capture, "batch_rule": BATCH_RULE},
    }


def _stop_inputs(config: RunConfig) -> dict[str, Any]:
    """What decides which units are read: a run that ends early is another run than one that reads everything."""
    if config.stop.level is None:
        return {"stop": config.stop.model_dump(include={"on_request", "seed"})} if config.stop.on_request else {}
    by = config.rank.model_dump(include={"metric", "k_frac"})
    return {"stop": {**config.stop.model_dump(mode="json", exclude={"on_request"}), **by}}
