"""Errors cross process borders whole."""

from __future__ import annotations

import pickle

from rampipe.errors import ConfigError, RampipeError, SampleError


def test_a_sample_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(SampleError("image 2 is empty", stage="decode", code="image_empty")))
    assert (type(error), str(error), error.stage, error.code) == (
        SampleError,
        "image 2 is empty",
        "decode",
        "image_empty",
    )


def test_only_wrong_settings_exit_with_two() -> None:
    assert (ConfigError("x").exit_code, RampipeError("x").exit_code) == (2, 1)
