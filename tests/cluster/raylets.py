"""A cluster of several real raylets on this machine, with a GPU each that exists in Ray's book only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil

OBJECT_STORE_BYTES = 80 << 20
MAX_ATTEMPTS = 10


def start_cluster(num_nodes: int) -> tuple[Any, list[Any]]:
    """The cluster and its nodes; its head holds no replica. This process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster: Any = insist(lambda: Cluster(initialize_head=True, head_node_args=head))
    nodes = [add_node(cluster) for _ in range(num_nodes)]
    cluster.wait_for_nodes(timeout=600)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")  # pyright: ignore[reportArgumentType]
    return cluster, nodes


def add_node(cluster: Any) -> Any:
    """In the main thread only: Ray ties the life of its processes to that of the thread that starts them."""
    return insist(lambda: cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=OBJECT_STORE_BYTES, wait=False))


def insist(start: Callable[[], Any]) -> Any:
    """Ray gives a node 30 s and leaves its processes behind; on a busy machine another attempt is worth it."""
    ours = psutil.Process()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        before = {*ours.children()}
        try:
            return start()
        except Exception:
            if attempt == MAX_ATTEMPTS:
                raise
            for process in {*ours.children()} - before:
                process.kill()
    raise AssertionError


def raylet(node: Any) -> Any:
    """Its process, as subprocess.Popen."""
    from ray._private.ray_constants import PROCESS_TYPE_RAYLET

    return node.all_processes[PROCESS_TYPE_RAYLET][0].process
