from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from safetensors.numpy import save_file

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.errors import CheckpointError
from tests.support.audiocraft import codec_state, codec_training, decoder_state, package, pointer, training
from tests.support.torch_files import save


@pytest.fixture
def folder(nano: Checkpoint, nano_tensors: Mapping[str, Any], tmp_path: Path) -> Path:
    """Write nano as audiocraft exports a model, with its text encoder and its tokenizer in `base`."""
    folder = tmp_path / "mine"
    (folder / "base").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(nano.directory / name, folder / "base")
    text = {name: values for name, values in nano_tensors.items() if name.startswith("text_encoder.")}
    save_file(text, folder / "base" / "model.safetensors")
    write_model(folder, nano, nano_tensors, training(nano.config))
    state = codec_state(nano_tensors, nano.config)
    save(folder / "compression_state_dict.bin", package(state, codec_training(nano.config)))
    return folder


def write_model(folder: Path, nano: Checkpoint, tensors: Mapping[str, Any], configuration: str, **more: Any) -> None:
    save(folder / "state_dict.bin", package({**decoder_state(tensors, np.concatenate), **more}, configuration))


def test_it_is_the_same_model_as_transformers(
    folder: Path, nano: Checkpoint, nano_tensors: Mapping[str, Any], tmp_path: Path
) -> None:
    """The same sizes, from tensors and from two configurations, and the same tensors under the same names."""
    checkpoint = find_checkpoint(str(folder), tmp_path)
    tensors = checkpoint.tensors()

    assert Shape.of(checkpoint.config) == Shape.of(nano.config)
    assert tensors.shapes == {name: values.shape for name, values in nano_tensors.items()}
    for name, values in nano_tensors.items():
        assert np.array_equal(tensors.read(name, *values.shape), values.astype(np.float32)), name
    assert checkpoint.tokenizer == folder / "base" / "tokenizer.json"
    assert [path.name for path in checkpoint.weights] == [
        "state_dict.bin",
        "compression_state_dict.bin",
        "model.safetensors",
    ]


def test_its_digest_is_that_of_all_its_weights(folder: Path, tmp_path: Path) -> None:
    """Other weights of any part make another checkpoint."""
    digests = {find_checkpoint(str(folder), tmp_path).digest}
    for path in (folder / "base" / "model.safetensors", folder / "state_dict.bin"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        digests.add(find_checkpoint(str(folder), tmp_path).digest)

    assert len(digests) == 3


def test_without_a_configuration_the_heads_are_64_wide(
    folder: Path, nano: Checkpoint, nano_tensors: Mapping[str, Any], tmp_path: Path
) -> None:
    """As those of all published models; the other sizes come from the tensors."""
    save(folder / "state_dict.bin", {"best_state": decoder_state(nano_tensors, np.concatenate)})

    shape = Shape.of(find_checkpoint(str(folder), tmp_path).config).decoder
    assert (shape.heads, shape.head_width, shape.layers, shape.channels) == (3, 64, 3, 1)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("name: t5-base", "name: t5-large", "has the text encoder 't5-large'; only t5-base"),
        ("modeling: delay", "modeling: parallel", "codebooks_pattern.modeling 'parallel' is not supported"),
        ("delays: [0, 1, 2, 3]", "delays: [0, 0, 0, 0]", "delays [0, 0, 0, 0] are not supported"),
        ("activation: gelu", "activation: relu", "activation 'relu'"),
        ("norm_first: true", "norm_first: false", "norm_first False"),
        ("positional_embedding: sin", "positional_embedding: rope", "'rope'"),
        ("kv_repeat: 1", "kv_repeat: 2", "kv_repeat 2"),
        (
            "conditioners:",
            "conditioners:\n  self_wav:\n    model: chroma_stem\n    chroma_stem:\n      n_chroma: 24",
            "conditioners.self_wav.chroma_stem.n_chroma 24 is not supported",
        ),
        ("conditioners:", "conditioners:\n  self_wav:\n    model: style", "is conditioned by 'self_wav' (style)"),
        ("sample_rate: 32000", "sample_rate: [1", "isn't YAML"),
        ("sample_rate: 32000", "[" * 20_000, "isn't YAML"),
        ("sample_rate: 32000", "!!python/object/apply:os.system ['true']", "isn't YAML"),
        ("sample_rate: 32000", "x" * 1_000_001, "no configuration of its training in YAML"),
    ],
)
def test_another_kind_of_model_is_refused(
    folder: Path,
    nano: Checkpoint,
    nano_tensors: Mapping[str, Any],
    tmp_path: Path,
    before: str,
    after: str,
    message: str,
) -> None:
    """By the configuration of its training; a melody, a style and other text encoders are named."""
    configuration = training(nano.config)
    assert before in configuration
    write_model(folder, nano, nano_tensors, configuration.replace(before, after))

    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(str(folder), tmp_path)
    assert message in str(caught.value)
    assert "state_dict.bin" in str(caught.value)


def test_references_that_never_end_are_ignored(
    folder: Path, nano: Checkpoint, nano_tensors: Mapping[str, Any], tmp_path: Path
) -> None:
    """The member has its default."""
    configuration = training(nano.config).replace("num_heads: 6", "num_heads: ${transformer_lm.num_heads}")
    write_model(folder, nano, nano_tensors, configuration)

    assert Shape.of(find_checkpoint(str(folder), tmp_path).config).decoder.heads == 3


@pytest.mark.parametrize(
    "name", ["transformer.layers.0.self_attn.in_proj_bias", "transformer.layers.0.layer_scale_1.scale"]
)
def test_a_tensor_that_musicgen_doesnt_have_is_an_error(
    folder: Path, nano: Checkpoint, nano_tensors: Mapping[str, Any], tmp_path: Path, name: str
) -> None:
    """It would change what the model makes."""
    write_model(folder, nano, nano_tensors, training(nano.config), **{name: np.ones(3, np.float32)})

    with pytest.raises(CheckpointError, match=f"doesn't have: '{name}'"):
        find_checkpoint(str(folder), tmp_path)


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (pointer("someone/codec"), "only names its codec"),
        (pointer("dac_44khz"), "names the codec 'dac_44khz', which is no repository"),
        (pointer("../../etc/passwd"), "which is no repository"),
        ({"pretrained": 3}, "names the codec '3'"),
        ({"best_state": {}, "xp.cfg": "compression_model: dac"}, "a codec of the kind 'dac'"),
        ([1], "holds no tensors by name"),
    ],
)
def test_a_codec_that_isnt_here_is_an_error(folder: Path, tmp_path: Path, codec: Any, message: str) -> None:
    """Or that is no codec; it names the file or says what gets it."""
    save(folder / "compression_state_dict.bin", codec)

    with pytest.raises(CheckpointError, match=message):
        find_checkpoint(str(folder), tmp_path)


def test_without_its_base_the_hint_is_the_command_that_gets_it(folder: Path, tmp_path: Path) -> None:
    """A folder of audiocraft's has neither text encoder nor tokenizer."""
    shutil.rmtree(folder / "base")

    with pytest.raises(CheckpointError, match="comes without a text encoder") as caught:
        find_checkpoint(str(folder), tmp_path)
    assert f"musicgen model pull {folder}" in str(caught.value.hint)


def test_a_config_of_its_own_comes_first(folder: Path, nano: Checkpoint, tmp_path: Path) -> None:
    """Where somebody has written one."""
    config = {**nano.config, "decoder": {**nano.config["decoder"], "activation_function": "relu"}}
    (folder / "config.json").write_text(json.dumps(config))

    assert Shape.of(find_checkpoint(str(folder), tmp_path).config).decoder.activation == "relu"
