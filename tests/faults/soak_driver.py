"""A driver over real raylets with a GPU each that exists in Ray's book only; a node that dies is replaced at once.

`python -m tests.faults.soak_driver SAMPLES OUT NODES_FILE --set KEY=VALUE ...`: the file lists the raylets, so that
somebody else can kill them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rampipe.engine.capture import run_capture
from rampipe.errors import RampipeError
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import TakesHalfASecond
from tests.cluster.raylets import add_node, raylet, start_cluster

NUM_NODES = 3


def keep_up(cluster: Any, nodes: list[Any], nodes_file: Path, capture: Future[Any]) -> None:
    """Until the capture ends: as many nodes as in the beginning."""
    while not capture.done():
        for node in [node for node in nodes if raylet(node).poll() is not None]:
            cluster.remove_node(node, allow_graceful=False)
            nodes.remove(node)
        while len(nodes) < NUM_NODES:
            nodes.append(add_node(cluster))
            tell(nodes, nodes_file)
        time.sleep(0.5)


def tell(nodes: Sequence[Any], nodes_file: Path) -> None:
    partial = nodes_file.with_suffix(".partial")
    partial.write_text("\n".join(str(raylet(node).pid) for node in nodes), encoding="utf-8")
    partial.rename(nodes_file)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("nodes_file", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args(argv)
    cluster, nodes = start_cluster(NUM_NODES)
    gpus = ("cluster.gpus_per_replica=1", f"cluster.replicas={NUM_NODES}")
    config = make_config(arguments.samples, arguments.out, *gpus, *arguments.overrides)
    with ThreadPoolExecutor(1) as pool:  # Ray starts nodes in the main thread only
        capture = pool.submit(run_capture, config, worker_class=TakesHalfASecond)
        tell(nodes, arguments.nodes_file)
        keep_up(cluster, nodes, arguments.nodes_file, capture)
        try:
            capture.result()
        except RampipeError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
