"""Checkpoints: what must be refused is refused with its name, and what is loaded is ready to be measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3TextConfig, Phi3Config, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from rampipe.config import ModelConfig
from rampipe.errors import ModelError
from rampipe.models.families import FAMILIES, find_family
from rampipe.models.loading import load_replica, longest_context


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def _load(path: Path | str, **options):
    return load_replica(ModelConfig(path=str(path), dtype="float32", **options), device="cpu")


def _change(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_replica_is_ready(tiny):
    assert not tiny.model.training
    assert not any(parameter.requires_grad for parameter in tiny.model.parameters())
    assert (tiny.max_tokens, tiny.vision.image_token, tiny.visual_token_ids) == (512, "<|image_pad|>", (5,))
    assert type(tiny.vision.image_processor).__name__ == "Qwen2VLImageProcessorPil"


def test_configured_precision_and_attention(folder):
    replica = load_replica(ModelConfig(path=str(folder), dtype="bfloat16", attention="eager"), device="cpu")
    assert {parameter.dtype for parameter in replica.model.parameters()} == {torch.bfloat16}
    assert replica.model.config.get_text_config()._attn_implementation == "eager"


@pytest.mark.parametrize("where", ["whole", "text", "vision"])
def test_a_kernel_that_the_checkpoint_names_is_not_fetched(folder, where):
    named = {"attn_implementation": "kernels-community/flash-attn2"}
    content = json.loads((folder / "config.json").read_text())
    part = content if where == "whole" else content[f"{where}_config"]
    part.update(named)
    _change(folder / "config.json", **content)
    model = _load(folder).model
    configs = [module.config for module in model.modules() if hasattr(module, "config")]
    assert {config._attn_implementation for config in configs} == {"sdpa"}


@pytest.mark.fault("B17")
@pytest.mark.parametrize("path", ["no/such/folder", "./nowhere", "/nowhere", "a b", "nowhere", "../x"])
def test_wrong_path_says_so(path):
    with pytest.raises(ModelError, match="not a folder and not a Hub id") as caught:
        _load(path)
    assert path in str(caught.value)


def test_unreachable_hub_id_says_so():
    with pytest.raises(ModelError, match=r"'nobody/nothing' \(revision v1\) is not a folder, and the Hub did not"):
        _load("nobody/nothing", revision="v1")


def test_unknown_family_lists_the_known(folder):
    _change(folder / "config.json", model_type="bert")
    with pytest.raises(ModelError, match=r"'bert' is not known\. Known: .*qwen2_5_vl, qwen2_vl"):
        _load(folder)


def test_families_share_no_model_type():
    names = [name for family in FAMILIES for name in family.MODEL_TYPES]
    assert len(set(names)) == len(names)
    assert all(find_family(name) in FAMILIES for name in names)


@pytest.mark.fault("B18")
def test_missing_layers_are_refused(folder):
    text = json.loads((folder / "config.json").read_text())["text_config"]
    del text["layer_types"]
    _change(folder / "config.json", text_config={**text, "num_hidden_layers": 3})
    with pytest.raises(ModelError, match=r"12 missing \(.*layers\.2\."):
        _load(folder)


@pytest.mark.fault("B18")
def test_layers_cut_off_are_refused(folder):
    text = json.loads((folder / "config.json").read_text())["text_config"]
    del text["layer_types"]
    _change(folder / "config.json", text_config={**text, "num_hidden_layers": 1})
    with pytest.raises(ModelError, match=r"12 unknown \(.*layers\.1\."):
        _load(folder)


@pytest.mark.fault("B18")
def test_other_shapes_are_refused(folder):
    _change_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(7)}))
    with pytest.raises(ModelError, match=r"1 of other shape \(.*norm\.weight\)"):
        _load(folder)


@pytest.mark.fault("B19")
def test_truncated_weights_are_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors of \d+ bytes is damaged or truncated"):
        _load(folder)


@pytest.mark.fault("B21")
def test_pickles_are_never_loaded(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="Only safetensors are loaded"):
        _load(folder)


def test_missing_shard_is_named(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"names 'model-00001-of-00001\.safetensors', which is not in"):
        _load(folder)


@pytest.mark.fault("B20")
def test_tokenizer_of_another_model_is_refused(folder):
    _change(folder / "config.json", image_token_id=20)
    with pytest.raises(ModelError, match="image token 20, which is no added token"):
        _load(folder)


@pytest.mark.fault("B20")
def test_tokenizer_with_more_tokens_than_embeddings_is_refused(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"].update({f"word{index}": index for index in range(40, 80)})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="the model only 64 embeddings"):
        _load(folder)


def test_missing_template_is_refused(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        _load(folder)


@pytest.mark.fault("B20")
def test_template_without_images_is_refused(folder):
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'][1]['text'] }}")
    with pytest.raises(ModelError, match="writes 0 image tokens"):
        _load(folder)


def test_template_of_the_processor_comes_first(folder):
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    _change(folder / "tokenizer_config.json", chat_template="wrong")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert _load(folder).tokenizer.chat_template == template


@pytest.mark.fault("B22")
def test_code_in_a_checkpoint_is_not_run(folder):
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Model: ...\n")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        auto = {"AutoConfig": "evil.Model", "AutoTokenizer": ["evil.Model", None], "AutoImageProcessor": "evil.Model"}
        _change(folder / name, auto_map={**auto, "AutoModelForImageTextToText": "evil.Model"})
    try:
        _load(folder)
    except ModelError as error:
        assert "trust_remote_code" in str(error)
    assert not (folder / "ran").exists()


def test_contexts_end_before_frequencies_depend_on_the_batch():
    shape = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
    lengths = {"max_position_embeddings": 2048, "original_max_position_embeddings": 256}
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    long = Phi3Config(**shape, **lengths, rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, **factors})
    assert longest_context(long) == 256
    assert longest_context(Phi3Config(**shape, **lengths)) == 2048
    with_kinds = Gemma3TextConfig(max_position_embeddings=512)
    assert longest_context(with_kinds) == 512


def test_qwen2_5_vl_is_the_same_family(folder, tiny):
    config = json.loads((folder / "config.json").read_text())
    text = {key: value for key, value in config["text_config"].items() if key not in ("model_type", "layer_types")}
    vision = {"depth": 1, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 2, "patch_size": 8}
    vision |= {"intermediate_size": 32, "window_size": 32, "fullatt_block_indexes": [0]}
    ids = {key: value for key, value in config.items() if key.endswith("_token_id")}
    tied = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    Qwen2_5_VLForConditionalGeneration(tied).save_pretrained(folder)
    replica = _load(folder)
    assert replica.family is tiny.family
    assert type(replica.model).__name__ == "Qwen2_5_VLForConditionalGeneration"


def test_broken_torchvision_does_not_matter(tiny_folder, tmp_path):
    """In a fresh process with a torchvision that raises: transformers alone fails, then we load all the same."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator nms does not exist')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "try:\n    from transformers import Qwen2VLForConditionalGeneration\nexcept ImportError:\n    print('broken')\n"
        "from rampipe.models.loading import load_replica\nfrom rampipe.config import ModelConfig\n"
        f"load_replica(ModelConfig(path={str(tiny_folder)!r}), device='cpu')\nprint('loaded')\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.stdout.split() == ["broken", "loaded"], done.stderr[-2000:]
