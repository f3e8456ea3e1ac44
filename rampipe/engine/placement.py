"""How many replicas fit on the nodes: found out before anything is started, because Ray would wait forever."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

from rampipe.config import ClusterConfig
from rampipe.errors import ClusterError, ConfigError

Node = Mapping[str, float]
"""Resources of one node by Ray's names, e.g. CPU and GPU."""


class ReplicaPlace(TypedDict):
    """Keyword arguments of `load_replica`: where a replica lives."""

    device: str | None
    threads: int
    num_gpus: int


def replica_place(config: ClusterConfig) -> ReplicaPlace:
    """What a replica may use of its node. Ray shows it no other GPUs than its own."""
    return {
        "device": None if config.on_gpu else "cpu",
        "threads": config.threads_per_replica,
        "num_gpus": max(1, int(config.gpus_per_replica)),
    }


def count_replicas(config: ClusterConfig, nodes: Sequence[Node]) -> int:
    """The number of replicas to start: `cluster.replicas`, or as many as fit.

    Raises ClusterError with what was asked and what is there when no node holds a single replica, or too few do;
    ConfigError for a share of several devices, which Ray cannot give.
    """
    for key, amount in (("gpus_per_replica", config.gpus_per_replica), ("cpus_per_replica", config.cpus_per_replica)):
        if amount > 1 and amount != int(amount):
            raise ConfigError(f"cluster.{key} = {amount:g}: above 1, only whole numbers can be reserved.")
    capacity = sum(_fitting(config, node) for node in nodes)
    if capacity == 0:
        raise ClusterError(
            f"no node can hold a replica: asked for {_asked(config)} each, {_described(nodes)}.{_advice(config, nodes)}"
        )
    if config.replicas == "auto":
        return capacity
    if config.replicas > capacity:
        raise ClusterError(
            f"cluster.replicas = {config.replicas}, but only {capacity} fit: asked for {_asked(config)} each, "
            f"{_described(nodes)}. Lower cluster.replicas or set it to auto."
        )
    return config.replicas


def _fitting(config: ClusterConfig, node: Node) -> int:
    fits = [(node.get("CPU", 0.0), config.cpus_per_replica), (node.get("GPU", 0.0), config.gpus_per_replica)]
    return min(math.floor(there / asked + 1e-9) for there, asked in fits if asked > 0)


def _asked(config: ClusterConfig) -> str:
    return f"{config.gpus_per_replica:g} GPU and {config.cpus_per_replica:g} CPU"


def _described(nodes: Sequence[Node]) -> str:
    shown = "; ".join(f"{node.get('GPU', 0.0):g} GPU, {node.get('CPU', 0.0):g} CPU" for node in nodes[:8])
    return f"there are {len(nodes)} nodes ({shown}{'; ...' if len(nodes) > 8 else ''})"


def _advice(config: ClusterConfig, nodes: Sequence[Node]) -> str:
    if config.gpus_per_replica > 0 and not any(node.get("GPU", 0.0) for node in nodes):
        return " Set cluster.gpus_per_replica=0 to run on CPUs."
    return " Lower cluster.cpus_per_replica or cluster.gpus_per_replica, or add nodes."
