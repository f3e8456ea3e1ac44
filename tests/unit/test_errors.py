"""Errors cross process borders whole, and no secret crosses any border."""

from __future__ import annotations

import pickle

import pytest

from rampipe.config import DataConfig
from rampipe.data import open_source
from rampipe.engine.failures import failure_cause
from rampipe.errors import ConfigError, RampipeError, SampleError, StorageError, redact
from rampipe.tables.rows import SampleFailure, errors_table
from rampipe.tables.run import RunSpec, create_run
from rampipe.tables.storage import open_storage
from tests.unit.tables.synthetic import spec

SECRETS = {
    "token of the Hub": ("hf_abcdefghijklmnopQRST", "token hf_abcdefghijklmnopQRST was refused"),
    "key id of AWS": ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE is not authorized"),
    "temporary key id": ("ASIAIOSFODNN7EXAMPLE", "the key ASIAIOSFODNN7EXAMPLE has expired"),
    "secret key": ("wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG"),
    "secret in JSON": ("s3cr3t-s3cr3t", '{"secret": "s3cr3t-s3cr3t", "region": "us-west-2"}'),
    "bearer token": ("eyJhbGciOiJIUzI1NiJ9.e30", "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30"),
    "password in a URL": ("key:s3cret", "cannot open s3://key:s3cret@bucket/runs"),
    "signed URL": ("0123456789abcdef", "GET https://store/x?X-Amz-Signature=0123456789abcdef&X-Amz-Date=1"),
}


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


@pytest.mark.fault("B24")
@pytest.mark.parametrize("case", SECRETS)
def test_a_secret_is_left_out_of_errors_causes_and_tables(case: str) -> None:
    secret, text = SECRETS[case]
    error = SampleError(text, stage="read", code="x")
    failure = SampleFailure("s", "shard", 0, error.stage, error.code, str(error))
    for shown in (
        str(StorageError(text)),
        repr(pickle.loads(pickle.dumps(error))),
        failure_cause(OSError(text), text),
        str(errors_table([failure]).to_pylist()),
    ):
        assert secret not in shown
        assert "[redacted]" in shown


@pytest.mark.fault("B24")
def test_a_secret_is_left_out_of_run_json_and_the_run_can_still_be_resumed(tmp_path) -> None:
    secret, text = SECRETS["password in a URL"]
    made: RunSpec = spec(inputs={"data": {"cause": text}})
    run = create_run(str(tmp_path), made)
    assert create_run(str(tmp_path), made).fingerprint == run.fingerprint
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"[redacted]@bucket" in everything
    assert secret.encode() not in everything


@pytest.mark.fault("B24")
def test_an_address_with_a_password_is_refused_and_not_shown() -> None:
    for use in (open_storage, lambda uri: open_source(DataConfig(path=uri))):
        with pytest.raises(ConfigError, match=r"s3://\[redacted\]@bucket/x: holds a user or a password") as caught:
            use("s3://key:s3cret@bucket/x")
        assert "s3cret" not in str(caught.value)
    assert open_storage("s3://bucket/user@example.org/x").uri == "s3://bucket/user@example.org/x"


@pytest.mark.parametrize(
    "text",
    [
        "tokenizer of model/x has 7 tokens, the model only 5 embeddings",
        "config.json says image token 151655, which is no added token",
        "speed.sink_tokens=64: allowed are 0 and more",
        "cannot read s3://bucket/key/part-00000.parquet: timeout",
        "sample a@b.c: image 2 has no evidence token (box 3x2 px)",
        "key 'model.path' is missing. Add it, or pass --set model.path=...",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text
