"""Stored frames of a video, for datasets that publish videos: no video decoder is among our dependencies.

Frames lie in one folder a video as `<frame number>.jpg`, numbered from 0, all or some of them. This is our own layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

MIN_FRAMES, MAX_FRAMES = 4, 32
FRAMES_PER_S = 2.0
"""What most families' video processors sample, and take the frames that they are given to be sampled at."""

One = TypeVar("One")


def list_frames(root: Path, folder: str) -> list[tuple[int, str]]:
    """Number and name, relative to `root`, of the stored frames of one video, in time order."""
    paths = (root / folder).glob("*.jpg")
    return sorted((int(path.stem), f"{folder}/{path.name}") for path in paths if path.stem.isdigit())


def num_sampled(duration_s: float) -> int:
    """Frames of a video of that length at the families' rate, within our limits."""
    return max(MIN_FRAMES, min(MAX_FRAMES, int(duration_s * FRAMES_PER_S)))


def spread(frames: Sequence[One], *, at_most: int = MAX_FRAMES) -> list[One]:
    """The middle frames of `at_most` equal parts; all frames when there are no more than that."""
    wanted = min(len(frames), at_most)
    return [frames[(2 * index + 1) * len(frames) // (2 * wanted)] for index in range(wanted)]
