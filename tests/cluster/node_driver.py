"""A driver over several real raylets with a GPU each that exists in Ray's book only, of which some go away.

`python -m tests.cluster.node_driver SAMPLES OUT --nodes 3 --fault kill --rounds 2`: a node goes when it holds work, and
another one comes, `rounds` times. It prints how many units were left at each, and the raylets that came.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rampipe.engine.capture import run_capture
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import FAULT_FOLDER, KeepsWorkBack
from tests.cluster.processes import wait_until
from tests.cluster.raylets import add_node, raylet, start_cluster

DRAIN_S = 3.0


def take_away(cluster: Any, nodes: list[Any], out: Path, *, fault: str, rounds: int) -> Iterator[int]:
    """After every second commit a node goes, and another one comes. Yields the number of commits at that moment."""
    for number in range(rounds):
        wanted = 2 * number + 2
        wait_until(lambda wanted=wanted: num_commits(out) >= wanted, what="commits", timeout_s=600)
        node = nodes.pop(0)
        if fault == "drain":
            drain(cluster, node)
            time.sleep(DRAIN_S)
        yield num_commits(out)
        cluster.remove_node(node, allow_graceful=False)
        nodes.append(add_node(cluster))


def num_commits(out: Path) -> int:
    return len(list(out.glob("*/_commits/*.json")))


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
    cluster, nodes = start_cluster(arguments.nodes)
    overrides = (
        "cluster.gpus_per_replica=1",
        "cluster.replicas='auto'",
        "capture.unit_samples=2",
        "cluster.min_deadline_s=600",
    )
    config = make_config(arguments.samples, arguments.out, *overrides)
    with ThreadPoolExecutor(1) as pool:  # Ray starts nodes in the main thread only
        capture = pool.submit(run_capture, config, worker_class=KeepsWorkBack, announce=lambda text: None)
        done = list(take_away(cluster, nodes, arguments.out, fault=arguments.fault, rounds=arguments.rounds))
        (Path(os.environ[FAULT_FOLDER]) / "all-nodes-went").touch()
        outcome = capture.result()
    left = [outcome.num_units - number for number in done]
    came = [raylet(node).pid for node in nodes[-arguments.rounds :]]
    print(json.dumps({"nodes": arguments.nodes, "units_left": left, "came": came}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
