"""The choice among attention kernels. Packages are installed as their metadata alone; none of them can run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from rampipe.config import ModelConfig
from rampipe.errors import ModelError
from rampipe.models.identity import model_identity
from rampipe.models.kernels import check_attention, choose_attention, is_installed
from rampipe.models.loading import load_replica

FLASH_2, FLASH_3 = ("flash_attn", "2.8.3.post1"), ("flash_attn_3", "3.0.0b1")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)

    def installed(*packages: tuple[str, str]) -> None:
        for name, version in packages:
            folder = tmp_path / f"{name}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    return installed


def choose(model_type: str = "qwen2_5_vl", *, on_gpu: bool = True, **options) -> str:
    return choose_attention(ModelConfig(path="x", **options), model_type, on_gpu=on_gpu)


def test_without_packages_it_is_pytorchs_own():
    assert choose() == "sdpa"
    assert choose("gemma2") == "eager"


def test_the_fastest_that_is_installed(install):
    install(FLASH_2)
    assert choose() == "flash_attention_2"
    install(FLASH_3)
    assert choose() == "flash_attention_3"
    assert choose("gemma2") == "flash_attention_3"


@pytest.mark.parametrize(
    ("model_type", "options"),
    [("qwen2_5_vl", {"on_gpu": False}), ("qwen2_5_vl", {"dtype": "float32"}), ("gemma3", {}), ("gemma4", {})],
)
def test_where_no_flash_kernel_fits(install, model_type, options):
    install(FLASH_2, FLASH_3)
    assert choose(model_type, **options) == "sdpa"


def test_a_release_that_transformers_refuses_counts_as_none(install):
    install(("flash_attn", "2.3.2"))
    assert not is_installed("flash_attention_2")
    assert choose() == "sdpa"


def test_a_named_one_is_taken_at_its_word(install):
    install(FLASH_3)
    assert choose(attention="sdpa") == "sdpa"
    assert choose(attention="flash_attention_2") == "flash_attention_2"


def test_the_choice_is_written_where_run_json_takes_it_from(tiny_folder, install):
    config = ModelConfig(path=str(tiny_folder))
    assert model_identity(config, on_gpu=True)["attention"] == "sdpa"
    install(FLASH_2)
    assert model_identity(config, on_gpu=True)["attention"] == "flash_attention_2"
    assert model_identity(config, on_gpu=False)["attention"] == "sdpa"


def test_auto_is_what_the_model_runs(tiny):
    assert tiny.model.get_decoder().config._attn_implementation == "sdpa"


def test_a_flash_kernel_on_a_cpu_is_refused(tiny_folder, install):
    install(FLASH_2)
    config = ModelConfig(path=str(tiny_folder), attention="flash_attention_2")
    with pytest.raises(ModelError, match="'flash_attention_2': flash kernels run on CUDA alone"):
        load_replica(config, device="cpu")


@pytest.mark.parametrize(
    ("model_type", "options", "reason"),
    [
        ("qwen2_vl", {}, "package flash-attn 2.3.3 or newer is not installed, and kernels are not fetched"),
        ("qwen2_vl", {"attention": "flash_attention_3"}, "package flash-attn-3 is not installed"),
        ("qwen2_vl", {"dtype": "float32"}, "flash kernels take bfloat16 or float16"),
        ("gemma3", {}, "gemma3 reads images in both directions"),
    ],
)
def test_a_named_kernel_that_cannot_run_says_why(model_type, options, reason):
    config = ModelConfig(path="x", **{"attention": "flash_attention_2", **options})
    with pytest.raises(ModelError, match=f"'{config.attention}': {reason}.*Set model.attention to 'auto' or 'sdpa'"):
        check_attention(config.attention, config, model_type, on_gpu=True)


def test_others_are_not_asked():
    for attention in ("sdpa", "eager"):
        check_attention(attention, ModelConfig(path="x", dtype="float32"), "gemma3", on_gpu=False)
