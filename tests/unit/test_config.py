"""Configuration: what is wrong is said in one line, with the key and the nearest right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rampipe.config import load_config, load_rank_config
from rampipe.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
LEAST = ["model.path=m", "data.path=d"]


@pytest.mark.parametrize("path", sorted((ROOT / "jobs" / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_config_is_valid(path: Path) -> None:
    assert load_config(path).rank.k_frac == 0.05


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rank.k_fraction=0.1", "did you mean 'rank.k_frac'?"),
        ("modle.path=x", "did you mean 'model'?"),
        ("rank.k_frac=5", "rank.k_frac = 5"),
        ("capture.queries=['question', 'question']", "names one group twice"),
        ("capture.queries=['questions']", "questions"),
        ("cluster.replicas=0", "cluster.replicas"),
        ("model.trust_remote_code=true", "model.trust_remote_code"),
        ("novalue", "write it as key=value"),
        ("out.deep=1", "'out'"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_it(override: str, message: str) -> None:
    overrides = [*LEAST, "out=x", override] if override.startswith("out.") else [*LEAST, override]
    with pytest.raises(ConfigError) as raised:
        load_config(None, overrides)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_overrides_win_over_the_file_and_bare_words_are_strings(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[model]\npath = "a"\n[data]\npath = "b"\n[rank]\nk_frac = 0.1\n', encoding="utf-8")
    config = load_config(path, ["model.path=some/model", "rank.k_frac=0.2", "cluster.replicas=3"])
    assert (config.model.path, config.data.path, config.rank.k_frac) == ("some/model", "b", 0.2)
    assert config.cluster.replicas == 3


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'data' is missing"):
        load_config(None, ["model.path=m"])


@pytest.mark.parametrize("text", ["[model", "\x80"])
def test_an_unreadable_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        load_config(path)
    with pytest.raises(ConfigError, match="not found"):
        load_config(tmp_path / "absent.toml")


def test_a_name_that_toml_reads_as_a_number_stays_a_name() -> None:
    least = ["model.path=m", "data.path=d"]
    assert load_config(None, [*least, "data.split=2_2_2"]).data.split == "2_2_2"
    assert load_config(None, [*least, "data.limit=2_2_2"]).data.limit == 222
    assert load_rank_config(None, ["rank.metric=7"]).metric == "7"


def test_ranking_needs_no_model_or_data_but_refuses_their_keys(tmp_path: Path) -> None:
    assert load_rank_config(None, ["rank.metric=hit"]).metric == "hit"
    assert load_rank_config(ROOT / "jobs" / "configs" / "demo.toml").metric == "ram"
    with pytest.raises(ConfigError, match=r"only rank"):
        load_rank_config(None, ["model.path=m"])
    with pytest.raises(ConfigError, match=r"rank\.k_frac"):
        load_rank_config(None, ["rank.k_fracs=0.1"])
