"""The most memory that was in use since a moment: allocated tensors on a GPU, the resident set on a CPU."""

from __future__ import annotations

from pathlib import Path

import torch

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"
"""Of clear_refs: the peak of the resident set becomes its present size (proc(5))."""


def reset_peak(device: torch.device) -> bool:
    """Start anew. False where the system does not allow it: a peak would then be an earlier one."""
    if device.type == "cuda":
        for gpu in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(gpu)
        return True
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return _resident_peak() is not None


def peak_bytes(device: torch.device) -> int | None:
    """Since the last `reset_peak`. Of several GPUs the sum of their peaks, which need not have been at one time.

    On a CPU with all else in the process, and what the allocator has not given back.
    """
    if device.type == "cuda":
        return sum(torch.cuda.max_memory_allocated(gpu) for gpu in range(torch.cuda.device_count()))
    return _resident_peak()


def _resident_peak() -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else None
