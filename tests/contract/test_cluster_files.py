"""The cluster files that we ship pass Ray's own validator, and keep authentication on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]
FILES = ("cluster.yaml", "cluster.onprem.yaml")


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    validate_config(prepare_config(load(name)))


@pytest.mark.parametrize("name", FILES)
def test_ray_rejects_it_with_an_unknown_key(name: str) -> None:
    with pytest.raises(Exception, match="available_node_type"):
        validate_config({**prepare_config(load(name)), "available_node_type": {}})


@pytest.mark.parametrize("name", FILES)
def test_token_authentication_is_on_and_the_dashboard_local(name: str) -> None:
    config = load(name)
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert all("--dashboard-host=127.0.0.1" in line for line in config["head_start_ray_commands"] if "--head" in line)


def test_on_kubernetes_the_token_is_a_secret_and_the_dashboard_local() -> None:
    text = (ROOT / "cluster.kuberay.yaml").read_text(encoding="utf-8")
    cluster = yaml.safe_load(text)["spec"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "rampipe-ray-token"}
    assert "RAY_AUTH_TOKEN" not in text, "the operator gives the token to the containers; a file of ours has none"
    assert cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"


def test_all_cluster_files_name_the_version_of_ray_that_the_tests_passed_with() -> None:
    (pinned,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    for name in FILES:
        assert load(name)["docker"]["image"].startswith(f"rayproject/ray:{pinned}-")
    cluster = load("cluster.kuberay.yaml")["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {container["image"] for group in groups for container in group["template"]["spec"]["containers"]}
    assert cluster["rayVersion"] == pinned
    assert all(image.endswith(f"-ray{pinned}") for image in images)


def test_gpu_nodes_ask_for_several_gpus() -> None:
    nodes = load("cluster.yaml")["available_node_types"]
    assert {name: kind["resources"]["GPU"] for name, kind in nodes.items() if "GPU" in kind["resources"]} == {
        "gpu_h100": 8,
        "gpu_l4_spot": 4,
    }
