"""Training batches: images of all four domains in equal parts, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from rampipe.testbed.domains import DOMAINS
from rampipe.testbed.haystack import make_haystack


@dataclass(frozen=True, slots=True)
class Batch:
    """Haystacks of one grid size. Image i belongs to domain i mod 4."""

    domains: Int[np.ndarray, " image"]
    keys: Int[np.ndarray, "image cell"]
    digits: Int[np.ndarray, "image cell 2"]
    pixels: UInt8[np.ndarray, "image height width 3"]


def make_batch(*, grid_side: int, num_images: int, rng: np.random.Generator) -> Batch:
    """Draws training images: no cell of them shows a held-out pair."""
    domains = np.arange(num_images) % len(DOMAINS)
    stacks = [make_haystack(int(domain), (grid_side, grid_side), needle=None, rng=rng) for domain in domains]
    return Batch(
        domains=domains,
        keys=np.stack([stack.keys for stack in stacks]),
        digits=np.stack([stack.digits for stack in stacks]),
        pixels=np.stack([stack.pixels for stack in stacks]),
    )
