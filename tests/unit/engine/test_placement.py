from __future__ import annotations

import pytest

from rampipe.config import ClusterConfig
from rampipe.engine.placement import count_replicas, replica_place
from rampipe.errors import ClusterError, ConfigError

GPU_NODE = {"CPU": 16.0, "GPU": 8.0}
CPU_NODE = {"CPU": 4.0}


@pytest.mark.parametrize(
    ("config", "nodes", "expected"),
    [
        (ClusterConfig(), [GPU_NODE, GPU_NODE, CPU_NODE], 16),
        (ClusterConfig(gpus_per_replica=0.5), [GPU_NODE], 16),
        (ClusterConfig(gpus_per_replica=2, cpus_per_replica=8), [GPU_NODE], 2),
        (ClusterConfig(gpus_per_replica=0), [CPU_NODE, CPU_NODE], 8),
        (ClusterConfig(gpus_per_replica=0.1, cpus_per_replica=0.1), [{"CPU": 1.0, "GPU": 1.0}], 10),
        (ClusterConfig(replicas=3), [GPU_NODE], 3),
    ],
)
def test_as_many_as_fit(config: ClusterConfig, nodes: list[dict[str, float]], expected: int) -> None:
    assert count_replicas(config, nodes) == expected


@pytest.mark.parametrize(("gpus", "device", "num_gpus"), [(0, "cpu", 1), (0.5, None, 1), (1, None, 1), (4, None, 4)])
def test_a_replica_has_its_gpus(gpus: float, device: str | None, num_gpus: int) -> None:
    place = replica_place(ClusterConfig(gpus_per_replica=gpus, threads_per_replica=3))
    assert place == {"device": device, "threads": 3, "num_gpus": num_gpus}


def test_no_replica_spans_nodes() -> None:
    config = ClusterConfig(gpus_per_replica=2)
    with pytest.raises(ClusterError, match=r"asked for 2 GPU and 1 CPU each, there are 2 nodes"):
        count_replicas(config, [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0}])


def test_a_machine_without_gpu_is_told_what_to_set() -> None:
    with pytest.raises(ClusterError, match=r"Set cluster.gpus_per_replica=0"):
        count_replicas(ClusterConfig(), [CPU_NODE])


def test_more_than_fit_is_refused_with_the_number() -> None:
    with pytest.raises(ClusterError, match=r"replicas = 9, but only 8 fit"):
        count_replicas(ClusterConfig(replicas=9), [GPU_NODE])


def test_a_share_of_two_devices_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gpus_per_replica = 1.5"):
        count_replicas(ClusterConfig(gpus_per_replica=1.5), [GPU_NODE])
