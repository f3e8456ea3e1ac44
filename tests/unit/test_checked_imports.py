"""What the tests run is checked against its annotations, and libraries are as compiled as ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from rampipe.models.tokens import overlap_frac

LIBRARY = """
from tests.checked_imports import check_imports
check_imports()
import rampipe.config, pydantic
print(rampipe.config.__spec__.loader.__class__.__name__, pydantic.__spec__.cached)
"""


def test_another_shape_is_an_error() -> None:
    assert overlap_frac(np.array([[0.0, 0.0, 2.0, 2.0]]), (0.0, 0.0, 1.0, 2.0)).tolist() == [0.5]
    with pytest.raises(TypeCheckError):
        overlap_frac(np.zeros((1, 3)), (0.0, 0.0, 1.0, 2.0))


def test_libraries_are_not_compiled_again() -> None:
    root = Path(__file__).resolve().parents[2]
    told = subprocess.run([sys.executable, "-c", LIBRARY], cwd=root, capture_output=True, text=True, check=True)
    loader, cached = told.stdout.split()
    assert loader == "Loader"
    assert Path(cached).name == f"__init__.{sys.implementation.cache_tag}.pyc"
