"""A driver over several real raylets with a GPU each that exists in Ray's book only, of which some go away.

`python -m tests.cluster.node_driver SAMPLES OUT --nodes 3 --fault kill --rounds 2`
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rampipe.engine.capture import run_capture
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import TakesItsTime
from tests.cluster.processes import wait_until

DRAIN_S = 3.0


def take_away(cluster: Any, nodes: list[Any], out: Path, *, fault: str, rounds: int) -> None:
    """After every second commit a node goes, and another one comes."""
    for number in range(rounds):
        wanted = 2 * number + 2
        wait_until(lambda wanted=wanted: len(list(out.glob("*/_commits/*.json"))) >= wanted, what="commits")
        node = nodes.pop(0)
        if fault == "drain":
            drain(cluster, node)
            time.sleep(DRAIN_S)
        cluster.remove_node(node, allow_graceful=False)
        nodes.append(add_node(cluster))


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 << 20, wait=False)


def drain(cluster: Any, node: Any) -> None:
    """Announce that a node goes away, as a cloud does of a spot instance."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    accepted, why = GcsClient(address=cluster.address).drain_node(
        node.node_id,
        autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        "spot instance is reclaimed",
        int((time.time() + DRAIN_S) * 1000),
    )
    assert accepted, why


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--fault", choices=["kill", "drain"], default="kill")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args(argv)
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20})
    nodes = [add_node(cluster) for _ in range(arguments.nodes)]
    cluster.wait_for_nodes(timeout=120)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    overrides = ("cluster.gpus_per_replica=1", "cluster.replicas='auto'", "capture.unit_samples=2")
    config = make_config(arguments.samples, arguments.out, *overrides)
    with ThreadPoolExecutor(1) as pool:  # Ray starts nodes in the main thread only
        capture = pool.submit(run_capture, config, worker_class=TakesItsTime, announce=print)
        take_away(cluster, nodes, arguments.out, fault=arguments.fault, rounds=arguments.rounds)
        outcome = capture.result()
    print(f"{arguments.nodes} nodes, {arguments.rounds} taken away, {outcome.num_units} units")
    ray.shutdown()
    cluster.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
