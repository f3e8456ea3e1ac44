"""Which attention kernel a replica runs: the one that is named, or the fastest that is installed and fits the model."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from rampipe.config import ModelConfig
from rampipe.errors import ModelError

PACKAGES = {"flash_attention_3": ("flash-attn-3", (0,)), "flash_attention_2": ("flash-attn", (2, 3, 3))}
"""Fastest first: the package, and the first release that transformers takes."""

READS_BOTH_WAYS = ("gemma3", "gemma4")
"""Families whose images are read in both directions. A flash kernel takes no such mask, and transformers drops it."""

WITHOUT_SDPA = ("gemma2",)
"""Families that soft-cap their logits, which PyTorch's kernel does not."""


def choose_attention(config: ModelConfig, model_type: str, *, on_gpu: bool) -> str:
    """`model.attention`; for `auto` a flash kernel on a GPU in half precision, where its package is installed, else
    PyTorch's own, else eager.

    A GPU is not looked at, so a driver without one chooses what its workers choose. Whether the named one can run is
    for `check_attention` to say.
    """
    if config.attention != "auto":
        return config.attention
    if on_gpu and config.dtype != "float32" and model_type not in READS_BOTH_WAYS:
        for name in PACKAGES:
            if is_installed(name):
                return name
    return "eager" if model_type in WITHOUT_SDPA else "sdpa"


def check_attention(attention: str, config: ModelConfig, model_type: str, *, on_gpu: bool) -> None:
    """Raises ModelError where `attention` is a flash kernel that cannot run here, or would read the model wrongly.

    transformers would fetch a missing one from the Hub where `kernels` is installed: code that nobody has pinned.
    """
    if attention not in PACKAGES:
        return
    package, oldest = PACKAGES[attention]
    reason = None
    if model_type in READS_BOTH_WAYS:
        reason = f"{model_type} reads images in both directions, which flash kernels cannot"
    elif not on_gpu:
        reason = "flash kernels run on CUDA alone, and the replica is on a CPU"
    elif config.dtype == "float32":
        reason = "flash kernels take bfloat16 or float16, and model.dtype is float32"
    elif not is_installed(attention):
        least = "" if oldest == (0,) else f" {'.'.join(map(str, oldest))} or newer"
        reason = f"package {package}{least} is not installed, and kernels are not fetched from the Hub"
    if reason is not None:
        raise ModelError(f"model.attention = {attention!r}: {reason}. Set model.attention to 'auto' or 'sdpa'.")


def is_installed(attention: str) -> bool:
    """Whether the package of a flash kernel is here, new enough."""
    package, oldest = PACKAGES[attention]
    try:
        found = version(package)
    except PackageNotFoundError:
        return False
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:3] if part.isdigit())
    return numbers >= oldest
