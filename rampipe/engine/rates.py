"""Measured rates: tokens a second of a whole capture, by device and model. `benchmarks/rates.py` writes the table."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rampipe.errors import ConfigError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Strict):
    """One measurement."""

    device: str = Field(min_length=1, description="As the machine names it")
    model: str = Field(min_length=1, description="model.path")
    dtype: str
    prompt_tokens: int = Field(ge=1, description="Median length of the prompts; longer ones are slower a token")
    tokens_per_s: float = Field(gt=0.0, description="Prompt tokens of all samples over the seconds of all units")
    num_samples: int = Field(ge=1)
    command: str
    versions: dict[str, str]
    date: str


class Peak(_Strict):
    """What a manufacturer states: nothing is faster, and nothing real is as fast."""

    device: str
    flop_per_s: float = Field(gt=0.0, description="Dense bfloat16, without sparsity")
    source: str


class Rates(_Strict):
    """The table."""

    version: int = Field(ge=1, le=1)
    measured: tuple[Rate, ...]
    peaks: tuple[Peak, ...] = ()

    def find(self, device: str, model: str) -> Rate | None:
        """The measurement of exactly this device and model: none is carried over from another."""
        return next((rate for rate in self.measured if (rate.device, rate.model) == (device, model)), None)

    def peak(self, device: str) -> Peak | None:
        """What is stated of a device."""
        return next((peak for peak in self.peaks if peak.device == device), None)


def read_rates(path: Path) -> Rates:
    """The table of a file. Raises ConfigError when it is none."""
    try:
        return Rates.model_validate_json(path.read_bytes())
    except OSError:
        raise ConfigError(f"rates {path}: cannot be read. Run benchmarks/rates.py, or pass --rates FILE.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"rates {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
