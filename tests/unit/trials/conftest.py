"""A small random replica and samples of different length, for all tests of this folder."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from rampipe.config import ModelConfig, RunConfig
from rampipe.models.loading import load_replica
from rampipe.testbed.architecture import build_model
from rampipe.testbed.checkpoint import save_checkpoint
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

CELL_PX = 32


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Untrained, with queries and keys scaled up: attention that is far from uniform shows every mistake."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model = build_model(seed=3, num_layers=2)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.q_proj.weight.mul_(2.0)
            layer.self_attn.k_proj.weight.mul_(2.0)
    save_checkpoint(model, folder)
    return folder


@pytest.fixture(scope="session")
def replica(checkpoint):
    return load_replica(ModelConfig(path=str(checkpoint), dtype="float32"), device="cpu", threads=1)


@pytest.fixture(scope="session")
def samples():
    """Four samples of four lengths: coloured noise in cells of one visual token, one cell of which is evidence."""
    grids = [(3, 3), (2, 2), (4, 3), (2, 4)]
    questions = ["what is next to the black-bar", "find the red-disk", "what is next to the blue-star", "find red-disk"]
    return [
        make_sample(seed, grid, question) for seed, (grid, question) in enumerate(zip(grids, questions, strict=True))
    ]


def make_sample(seed, grid, question):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, size=(grid[0] * CELL_PX, grid[1] * CELL_PX, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return Sample(
        sample_id=f"noise-{seed}",
        domain="noise",
        context=(ContextPart(kind="image", image=0),),
        images=(StoredImage(file.getvalue(), None),),
        question=question,
        answers=("2 5",),
        choices=None,
        evidence=(Evidence(kind="box", image=0, box=(float(CELL_PX), 0.0, 2.0 * CELL_PX, float(CELL_PX))),),
    )


@pytest.fixture(scope="session")
def config(checkpoint):
    return RunConfig.model_validate(
        {
            "model": {"path": str(checkpoint), "dtype": "float32"},
            "data": {"path": "unused"},
            "capture": {"queries": ["question", "last", "answer"], "calibrate": True},
        }
    )
