"""Hugging Face directories of every type that keras-hub converts mean in Keras what they mean in transformers, or are refused.

Against golden/hugging_face.npz, which make_golden_hugging_face.py keeps of transformers' outputs, and with `oracle` against
transformers itself, on the directories that it writes.

    pytest tests/test_hugging_face.py
    pytest tests/test_hugging_face.py -m oracle
"""

import importlib.util
import json
from functools import cache
from pathlib import Path

import make_golden
import make_golden_hugging_face as golden_models
import numpy as np
import pytest
import test_sound_networks
import tiny_transformers
from click.testing import CliRunner

import tlkeras
from tlkeras.cli import main
from tlkeras.errors import ModelError
from tlkeras.foreign import files, sources, transformers
from tlkeras.weights import compared, elsewhere, hugging_face

EXACT = 1e-5
oracle = pytest.mark.oracle
needs_torch = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")),
    reason="torch and transformers are not installed",
)


# Exactness.


@cache
def golden() -> dict:
    with np.load(golden_models.GOLDEN, allow_pickle=False) as found:
        return dict(found)


def directory(name: str, folder: Path, **changed) -> Path:
    config, shapes = (json.loads(str(golden()[f"{name}/{key}"])) for key in ("config", "shapes"))
    return golden_models.write(folder, config | changed, shapes)


def states(model, ids) -> np.ndarray:
    given = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    return np.asarray(model({tensor.name: given[tensor.name] for tensor in model.inputs}, training=False))


@pytest.mark.parametrize("name", golden_models.KEPT)
def test_what_keras_hub_would_build_otherwise_is_what_transformers_computes(name, tmp_path):
    pytest.importorskip("safetensors")
    model, coverage, _ = hugging_face.converted(sources.read(directory(name, tmp_path / "model")))
    assert coverage.whole
    want = golden()[f"{name}/states"]
    assert np.abs(want).max() > 0.5
    np.testing.assert_allclose(states(model, golden()[f"{name}/ids"]), want, rtol=0, atol=EXACT)


def test_a_preset_remembers_what_keras_hubs_classes_cannot_say(tmp_path):
    import keras_hub

    from tlkeras.backbones import keras_hub as entries

    name = "gpt_oss with its layers the other way"
    folder = directory(name, tmp_path / "model")
    found = elsewhere.convert(folder, None, tmp_path / "preset")
    assert found["filled"] == found["weights"] and found["compared"]
    made = entries.from_directory(tmp_path / "preset").build(None, "preset")
    ids = golden()[f"{name}/ids"]
    np.testing.assert_allclose(states(made, ids), golden()[f"{name}/states"], rtol=0, atol=EXACT)
    alone = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    assert np.abs(states(alone, ids) - golden()[f"{name}/states"]).max() > 0.01


@oracle
@needs_torch
@pytest.mark.parametrize("name", [*tiny_transformers.TINY, *make_golden.KEPT])
def test_every_type_is_equal_to_transformers_by_the_users_own_path(name, tmp_path):
    found = tiny_transformers.compare(name, tmp_path / "model")
    assert found["compared"] and found["exact"]
    assert found["coverage"]["missing"] == found["coverage"]["unused"] == []
    assert found["features"]["difference"] < EXACT * max(1, found["features"]["scale"])


# What is said of every type.


def test_every_type_was_compared_or_says_why_not():
    kinds = {*hugging_face.TYPES, *hugging_face.OWN}
    assert kinds == set(compared.COMPARED) | set(compared.NOT_COMPARED)
    assert not set(compared.COMPARED) & set(compared.NOT_COMPARED)
    assert set(compared.LIMITS) <= set(compared.COMPARED)
    tried = {name.split()[0] for name in (*tiny_transformers.TINY, *make_golden.KEPT)}
    assert set(compared.COMPARED) <= tried


def test_the_page_has_a_row_for_every_type():
    page = (Path(tlkeras.__file__).parents[1] / "docs" / "weights.md").read_text("utf8")
    for kind, (difference, scale) in compared.COMPARED.items():
        assert f"| `{kind}` | {difference:.1e} of {scale:.2g} |" in page, kind
    for kind, why in compared.NOT_COMPARED.items():
        assert f"| `{kind}` | not compared | {why}" in page, kind
    for kind, limit in compared.LIMITS.items():
        assert f"| {limit}" in page, kind


# What is refused.

REFUSED = [
    ("gemma", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, "rope_theta must be 10000.0, it is 500"),
    ("gemma2", {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}, r"layer_types must be \['sliding_att"),
    ("gemma3_text", {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}, "layer_types must"),
    ("gemma3_text", {"rope_local_base_freq": 500.0}, "rope_local_base_freq must be 10000.0, it is 500"),
    ("gpt_oss", {"rope_parameters": {"rope_type": "default"}}, "rope_type must be yarn, it is default"),
    ("qwen3_moe", {"decoder_sparse_step": 2, "mlp_only_layers": [0]}, r"(?s)step must be 1, it is 2.*mlp_only_layers"),
    ("qwen3", {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}, "layer_types must be"),
    ("qwen3", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling.type must be default, it is yarn"),
    ("mixtral", {"hidden_act": "relu"}, "hidden_act must be silu, it is relu"),
    ("gpt_oss", {"sliding_window": "wide", "num_hidden_layers": 2}, "cannot be used"),
    ("metaclip_2", {"text_config": {"layer_norm_eps": 1e-3}}, "text_config.layer_norm_eps must be 1e-05"),
    ("mistral", {"quantization_config": {"quant_method": "gptq"}}, "quant_method must be absent, it is gptq"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "config", "finding"), REFUSED)
def test_a_setting_that_keras_hub_does_not_read_is_refused(kind, config, finding, tmp_path):
    pytest.importorskip("safetensors")
    golden_models.write(tmp_path / "model", {"model_type": kind} | config, {"model.norm.weight": [4]})
    with pytest.raises(ModelError, match=finding):
        hugging_face.converted(sources.read(tmp_path / "model"))


def test_every_tensor_that_is_missing_or_of_another_shape_is_named_at_once(tmp_path):
    pytest.importorskip("safetensors")
    config, shapes = (json.loads(str(golden()[f"gemma2 of its own/{key}"])) for key in ("config", "shapes"))
    del shapes["model.norm.weight"]
    shapes["model.layers.0.mlp.up_proj.weight"] = [24, 15]
    folder = golden_models.write(tmp_path / "model", config, shapes)
    with pytest.raises(ModelError) as refused:
        elsewhere.convert(folder, None, tmp_path / "preset")
    assert "from model.norm.weight, which is not there" in str(refused.value)
    assert "from model.layers.0.mlp.up_proj.weight, which has (24, 15)" in str(refused.value)
    assert not (tmp_path / "preset").exists()


# The command.


def run(*words) -> tuple[int, str]:
    found = CliRunner().invoke(main, [str(word) for word in words])
    return found.exit_code, found.output


@pytest.mark.parametrize("name", ["base", "hubert"])
def test_a_directory_of_speech_is_converted_with_its_head_left_out_by_name(name, tmp_path):
    from tlkeras import weights
    from tlkeras.backbones import wav2vec2

    pytest.importorskip("safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    test_sound_networks.directory(name, folder)
    tensors = transformers.read_tensors(folder) | {"lm_head.weight": np.ones((12, 32), "float32")}
    files.write_safetensors(folder / "model.safetensors", {n: np.array(t) for n, t in tensors.items()})
    code, said = run("weights", "convert", folder, "--out", tmp_path / "out.weights.h5")
    assert code == 0, said
    assert (
        "not used: classifier:" in said and "lm_head.weight" in said and f"{{name: {folder}, weights: preset}}" in said
    )
    entry = wav2vec2.from_directory(folder)
    wanted, again = weights.load(entry, "preset", None), entry.build(None, None)
    again.load_weights(tmp_path / "out.weights.h5")
    for one, other in zip(wanted.weights, again.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


MAP = """
layout: tf
rules:
  ~(.+)/moving_(.+): stats/{2}/of/{1}
  ~(.+): net/{1}
unused: [head.*]
"""


def test_the_command_converts_by_a_map_of_names(tmp_path):
    """A file that no built-in map knows: names of its own, kernels as in Keras."""
    import keras

    from tlkeras import backbones

    model = backbones.get("mobilenet_v3_small").build((32, 32), None)
    names = {v.path: "net/" + v.path for v in model.weights}
    names |= {p: f"stats/{p.rpartition('_')[2]}/of/{p.rpartition('/')[0]}" for p in names if "/moving_" in p}
    tensors = {names[v.path]: np.asarray(v) for v in model.weights} | {"head.weight": np.ones((2, 4), "float32")}
    files.write_safetensors(tmp_path / "own.safetensors", tensors)
    (tmp_path / "names.yaml").write_text(MAP)
    words = ("weights", "convert", tmp_path / "own.safetensors", "--to", "mobilenet_v3_small", "--size", 32)
    words += ("--map", tmp_path / "names.yaml", "--out")
    code, said = run(*words, tmp_path / "out.keras")
    assert code == 0, said
    count = len(model.weights)
    assert f"{count} of {count + 1} tensors used" in said and "head.weight" in said
    for one, other in zip(keras.models.load_model(tmp_path / "out.keras").weights, model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    (tmp_path / "names.yaml").write_text(MAP.replace("unused: [head.*]\n", ""))
    code, said = run(*words, tmp_path / "again.keras")
    assert code == 4 and "NOT USED" in said and "head.weight" in said and not (tmp_path / "again.keras").exists()
