from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.deep.checkpoint import deep_weights_path
from rampipe.testbed.deep.evaluate import load_deep


@pytest.fixture(scope="module")
def model() -> Iterator[Qwen2VLForConditionalGeneration]:
    """The shipped weights, once for a module."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_deep(deep_weights_path())
    torch.set_num_threads(num_threads)
