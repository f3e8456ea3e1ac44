"""Every error that a user can meet. A message names the thing, the value seen, the value allowed, and what to do.

It identifies; it never holds payloads, tokens or secrets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

Stage = Literal["read", "decode", "encode", "regions", "forward", "statistics", "engine"]


_SECRETS = (
    re.compile(r"()\bhf_[A-Za-z0-9]{16,}"),
    re.compile(r"()\bA[KS]IA[A-Z0-9]{16}\b"),
    re.compile(r"(://)[^/@\s]+(?=@)"),
    re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{8,}"),
    re.compile(r"(?i)((?:token|secret|password|signature|(?:api|access)_?key)[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;]{8,}"),
)


def redact(text: str) -> str:
    """The text with what looks like a token, a key or a password replaced: what others print may hold them."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\1[redacted]", text)
    return text


class RampipeError(Exception):
    """Base of all errors that we raise on purpose. `exit_code` is what a job returns for it."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class ConfigError(RampipeError):
    """The user's configuration or command line is wrong: one line, no traceback."""

    exit_code = 2


class ModelError(RampipeError):
    """A checkpoint cannot be loaded or is of a class that we do not know."""

    exit_code = 2


class DataError(RampipeError):
    """A whole dataset or shard is unusable: found at plan time, before any device is used."""

    exit_code = 2


class SampleError(RampipeError):
    """One sample cannot be measured: becomes one row of `errors/`, and the run goes on.

    stage: where it happened. code: a short stable name, e.g. `image_corrupt`; users group by it.
    """

    def __init__(self, message: str, *, stage: Stage, code: str) -> None:
        super().__init__(message)
        self.stage: Stage = stage
        self.code = code

    def __reduce__(self) -> tuple[Callable[..., SampleError], tuple[str, Stage, str]]:
        """Exceptions pickle their positional arguments only; ours has to cross process borders whole."""
        return _sample_error, (str(self), self.stage, self.code)


def _sample_error(message: str, stage: Stage, code: str) -> SampleError:
    return SampleError(message, stage=stage, code=code)


class StorageError(RampipeError):
    """The output cannot be written, or what was written is not what its record says."""


class IncompleteError(RampipeError):
    """A run does not balance, or work was left undone."""


class ClusterError(RampipeError):
    """Ray cannot give what was asked for, or actors fail in the same way again and again."""
