"""What a run of timings will do: which arms, at which lengths, on what; found out before any device is used."""

from __future__ import annotations

import math
import random
from typing import Any

from rampipe.config import ClusterConfig, RunConfig
from rampipe.data import open_source
from rampipe.errors import ConfigError
from rampipe.models.checkpoint import find_checkpoint
from rampipe.models.identity import model_identity, model_slug
from rampipe.tables.arms import ArmPlan
from rampipe.tables.fingerprint import fingerprint
from rampipe.tables.run import RunSpec
from rampipe.tables.timings import timed_arms
from rampipe.types import Unit


def speed_config(config: RunConfig) -> RunConfig:
    """The configuration of the actors that time: samples of `speed.split` give the pattern of the prompts, and each
    actor has whole devices. Raises ConfigError without such a split.
    """
    if config.speed.split is None:
        raise ConfigError(
            "speed.split is not set: name the split whose prompts are timed and answered, another than the ranked one."
        )
    capture = config.capture.model_copy(update={"calibrate": False, "queries": ("last",)})
    data = config.data.model_copy(update={"split": config.speed.split})
    return config.model_copy(update={"data": data, "capture": capture, "cluster": whole_devices(config.cluster)})


def whole_devices(cluster: ClusterConfig) -> ClusterConfig:
    """One actor per whole GPU, or GPUs; without any, one actor at a time: two would take each other's memory bus."""
    if cluster.gpus_per_replica == 0:
        return cluster.model_copy(update={"replicas": 1})
    shared = cluster.gpus_per_replica < 1
    replicas = "auto" if shared else cluster.replicas
    return cluster.model_copy(update={"gpus_per_replica": math.ceil(cluster.gpus_per_replica), "replicas": replicas})


def make_speed_spec(config: RunConfig, plan: ArmPlan) -> RunSpec:
    """Units and fingerprint of a run of timings. A unit is an arm; its rows are the lengths, in their order.

    Arms are timed in an order that is shuffled by what the run is made of, so that a device that slows down does not
    favour the first strategy.
    Raises ConfigError when there is nothing to time, a length is named twice or is longer than the model's context.
    """
    config = speed_config(config)
    check_lengths(config)
    arms = timed_arms(plan, timed_seeds=config.speed.timed_seeds)
    if not arms:
        raise ConfigError(
            f"plan of {plan.run_id}: none of its {len(plan.arms)} arms is to be timed. Name more in speed.full_fracs "
            "or speed.strategies, or raise speed.timed_seeds."
        )
    inputs = _inputs(config, plan)
    order = [arm.arm_id for arm in arms]
    random.Random(fingerprint(inputs)).shuffle(order)  # noqa: S311 - no secret
    num_lengths = len(config.speed.context_tokens)
    return RunSpec(
        model_slug=model_slug(config.model),
        dataset_slug=f"speed-{config.data.split}",
        inputs=inputs,
        units=tuple(Unit(index, arm_id, 0, num_lengths) for index, arm_id in enumerate(order)),
        queries=(),
        num_heads=0,
        num_repeats=config.speed.repeats,
    )


def check_lengths(config: RunConfig) -> None:
    """Every timed prompt, and what is decoded after it, fits the model. Raises ConfigError for one that does not."""
    lengths, new_tokens = config.speed.context_tokens, config.speed.new_tokens
    if len(set(lengths)) < len(lengths):
        raise ConfigError(f"speed.context_tokens {list(lengths)}: names one length twice. Name each once.")
    longest = _max_tokens(config)
    for tokens in lengths:
        if tokens + new_tokens > longest:
            raise ConfigError(
                f"speed.context_tokens {tokens}: with speed.new_tokens {new_tokens} longer than the model's context of "
                f"{longest} tokens. Take at most {longest - new_tokens}."
            )


def _max_tokens(config: RunConfig) -> int:
    from transformers import AutoConfig

    checkpoint = find_checkpoint(config.model)
    found = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False, local_files_only=True)
    return int(found.get_text_config(decoder=True).max_position_embeddings)


def _inputs(config: RunConfig, plan: ArmPlan) -> dict[str, Any]:
    """Everything that decides what is timed, and on what kind of device."""
    timing = ("context_tokens", "new_tokens", "warmups", "repeats")
    return {
        "model": model_identity(config.model, on_gpu=config.cluster.on_gpu),
        "data": {
            "source": config.data.source,
            "shards": {shard.path: shard.digest for shard in open_source(config.data).shards()},
        },
        "prompt": config.prompt.model_dump(mode="json"),
        "arms": {"plan_sha256": plan.sha256, "ranking_sha256": plan.ranking_sha256},
        "timing": {name: value for name, value in config.speed.model_dump(mode="json").items() if name in timing},
        "device": {
            "kind": "gpu" if config.cluster.gpus_per_replica else "cpu",
            "gpus": config.cluster.gpus_per_replica,
            "threads": config.cluster.threads_per_replica,
        },
    }
