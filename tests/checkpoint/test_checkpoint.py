from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("safetensors", reason="needs the extra local")

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.names import PUBLISHED
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.errors import CheckpointError, ModelAbsentError, UnknownModelError
from tests.support.model_fixtures import Write

NORM = "decoder.model.decoder.layer_norm.weight"


def test_auto_is_nano_if_no_other_model_is_installed(tmp_path: Path) -> None:
    """A fresh installation uses the bundled model."""
    assert find_checkpoint("auto", tmp_path).name == "nano"


def test_auto_is_the_first_published_model_that_is_complete(tmp_path: Path, write: Write) -> None:
    """A folder without weights is passed over."""
    write("models/medium")
    (write("models/small") / "model.safetensors").unlink()

    assert find_checkpoint("auto", tmp_path / "models").name == "medium"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_error_for_an_absent_model_names_the_command_that_pulls_it(tmp_path: Path, name: str) -> None:
    """The command is in the hint."""
    with pytest.raises(ModelAbsentError) as caught:
        find_checkpoint(name, tmp_path)

    assert f"musicgen model pull {name}" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["melodies", "tiny", "Small"])
def test_the_error_for_an_unknown_name_lists_the_known_ones(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that can be run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModelError) as caught:
        find_checkpoint(name, tmp_path)

    assert "stereo-small" in str(caught.value.hint)
    assert "stereo-melody" in str(caught.value.hint)


def test_a_path_names_a_checkpoint(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without a separator, if the folder exists."""
    folder = write("mine")
    monkeypatch.chdir(tmp_path)

    assert find_checkpoint(str(folder), tmp_path).name == "mine"
    assert find_checkpoint("mine", tmp_path).directory == Path("mine")
    with pytest.raises(ModelAbsentError, match="no folder"):
        find_checkpoint("./other", tmp_path)


def test_the_license_is_the_published_one_or_that_of_the_model_card(
    nano: Checkpoint, write: Write, tmp_path: Path
) -> None:
    """Only a card's front matter counts; without it the licence is unknown."""
    folder = write("small")
    assert nano.license == "MIT"
    assert find_checkpoint("small", tmp_path).license == "CC-BY-NC-4.0"
    assert find_checkpoint(str(folder), tmp_path).license is None
    (folder / "README.md").write_text("---\ntags:\n- music\nlicense: apache-2.0\n---\nlicense: other\n")
    assert find_checkpoint(str(folder), tmp_path).license == "apache-2.0"
    (folder / "README.md").write_text("# Mine\nlicense: other\n")
    assert find_checkpoint(str(folder), tmp_path).license is None


def test_the_digest_is_that_of_config_and_weights_together(write: Write) -> None:
    """The command `cat config.json model.safetensors | sha256sum` prints the same."""
    folder = write()
    content = (folder / "config.json").read_bytes() + (folder / "model.safetensors").read_bytes()

    assert find_checkpoint(str(folder), folder).digest == hashlib.sha256(content).hexdigest()


def test_the_digest_of_a_folder_is_cached_until_a_file_changes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes aren't hashed at each start, and changed weights are noticed."""
    folder, cache = write(), tmp_path / "cache"
    weights = folder / "model.safetensors"
    for path in folder.iterdir():
        os.utime(path, (10**9, 10**9))
    first = find_checkpoint(str(folder), folder, cache).digest

    with monkeypatch.context() as patch:
        patch.delattr(hashlib, "file_digest")
        assert find_checkpoint(str(folder), folder, cache).digest == first
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert find_checkpoint(str(folder), folder, cache).digest != first


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(write: Write, missing: str) -> None:
    """Both the config and the weights are needed."""
    folder = write()
    (folder / missing).unlink()

    with pytest.raises(CheckpointError, match=missing):
        find_checkpoint(str(folder), folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_config_that_is_not_a_json_object_is_refused(write: Write, content: bytes) -> None:
    """The error is one of ours and names the file."""
    folder = write()
    (folder / "config.json").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"config\.json is not"):
        find_checkpoint(str(folder), folder)


def header(**entries: Any) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        header(a={}),
        header(a=1),
        header(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}) + bytes(8),
        header(a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}) + bytes(3),
        header(a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}) + bytes(5),
        header(a={"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": "F32", "shape": None, "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": [], "shape": [1], "data_offsets": [0, 4]}) + bytes(4),
        header(a={"dtype": "F32", "shape": [1], "data_offsets": "ab"}) + bytes(4),
    ],
)
def test_a_damaged_safetensors_file_is_refused(write: Write, content: bytes) -> None:
    """Truncated, too long, of another format or with a wrong header: one line that names the file."""
    folder = write()
    (folder / "model.safetensors").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"model\.safetensors") as caught:
        find_checkpoint(str(folder), folder).tensors()
    assert "\n" not in str(caught.value)


def test_a_truncated_safetensors_file_is_refused(write: Write) -> None:
    """Its length follows from its header."""
    folder = write()
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])

    with pytest.raises(CheckpointError, match="is damaged: it should have"):
        find_checkpoint(str(folder), folder).tensors()


def test_every_float_type_is_read(write: Write) -> None:
    """F32, F16 and BF16 are converted to float32 exactly; other types are refused."""
    folder = write()
    values = np.array([[1.0, -2.5], [2.0**-20, 3.0e4]], np.float32)
    parts = {
        "F32": values.astype("<f4").tobytes(),
        "F16": values.astype("<f2").tobytes(),
        "BF16": (values.view(np.uint32) >> 16).astype("<u2").tobytes(),
        "I64": bytes(32),
    }
    entries, body = {}, b""
    for kind, content in parts.items():
        entries[kind] = {"dtype": kind, "shape": [2, 2], "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    (folder / "model.safetensors").write_bytes(header(__metadata__={"format": "pt"}, **entries) + body)
    tensors = find_checkpoint(str(folder), folder).tensors()

    assert np.array_equal(tensors.read("F32", 2, 2), values)
    assert np.array_equal(tensors.read("F16", 2, 2), values.astype(np.float16).astype(np.float32))
    assert np.array_equal(
        tensors.read("BF16", 2, 2), np.float32([[1, -2.5], [2.0**-20, 29952]])
    )  # 3.0e4 truncated to 8 bits
    assert {tensors.read(kind, 2, 2).dtype for kind in ("F32", "F16", "BF16")} == {np.dtype(np.float32)}
    with pytest.raises(CheckpointError, match="'I64' is I64"):
        tensors.read("I64", 2, 2)


def test_the_error_for_an_unusable_tensor_names_it(write: Write, nano_tensors: Mapping[str, Any]) -> None:
    """The tensor is missing, has another shape, or has a NaN."""
    spoilt = nano_tensors[NORM].copy()
    spoilt[7] = np.nan
    folder = write(tensors={**nano_tensors, NORM: spoilt})
    tensors = find_checkpoint(str(folder), folder).tensors()

    with pytest.raises(CheckpointError, match=rf"{NORM}' has values that are infinite or NaN"):
        tensors.read(NORM, 192)
    with pytest.raises(CheckpointError, match=rf"{NORM}' has the shape \(192,\), config.json requires \(96, 2\)"):
        tensors.read(NORM, 96, 2)
    with pytest.raises(CheckpointError, match="no tensor 'absent'"):
        tensors.read("absent", 1)


def sharded(folder: Path, tensors: Mapping[str, Any]) -> None:
    from safetensors.numpy import save_file

    names, places = sorted(tensors), dict[str, str]()
    for shard, part in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        save_file({name: tensors[name] for name in part}, folder / shard)
        places |= dict.fromkeys(part, shard)
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def test_shards_are_one_checkpoint(write: Write, nano_tensors: Mapping[str, Any]) -> None:
    """Large models are several files with an index."""
    folder = write()
    sharded(folder, nano_tensors)
    checkpoint = find_checkpoint(str(folder), folder)
    tensors = checkpoint.tensors()

    assert [path.name for path in checkpoint.weights] == ["a.safetensors", "b.safetensors"]
    assert all(np.array_equal(tensors.read(name, *values.shape), values) for name, values in nano_tensors.items())
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no b\.safetensors, which its index names"):
        find_checkpoint(str(folder), folder)


@pytest.mark.parametrize("index", [b"{", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}'])
def test_an_index_without_shards_is_refused(write: Write, index: bytes) -> None:
    """The error names the index."""
    folder = write()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_bytes(index)

    with pytest.raises(CheckpointError, match=r"index\.json"):
        find_checkpoint(str(folder), folder)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "pytorch_model.bin"])
def test_an_index_can_name_only_safetensors_in_its_own_folder(write: Write, shard: str) -> None:
    """An index that was downloaded can't be trusted with paths."""
    folder = write()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))

    with pytest.raises(CheckpointError, match="doesn't name safetensors files in its own folder"):
        find_checkpoint(str(folder), folder)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("model_type", "musicgen_style"),
        ("decoder", None),
        ("decoder.hidden_size", 0),
        ("decoder.hidden_size", 100),
        ("decoder.num_attention_heads", True),
        ("decoder.activation_function", "swish"),
        ("decoder.audio_channels", 3),
        ("decoder.num_codebooks", "4"),
        ("decoder.pad_token_id", 0),
        ("decoder.vocab_size", 1024),
        ("decoder.cross_attention_hidden_size", 128),
        ("text_encoder.model_type", "bert"),
        ("text_encoder.feed_forward_proj", "gated-silu"),
        ("text_encoder.relative_attention_max_distance", 8),
        ("audio_encoder.model_type", "dac"),
        ("audio_encoder.norm_type", "time_group_norm"),
        ("audio_encoder.audio_channels", 2),
        ("audio_encoder.pad_mode", "circular"),
        ("audio_encoder.upsampling_ratios", [2, 0]),
        ("audio_encoder.codebook_dim", 5),
        ("audio_encoder.trim_right_ratio", 2),
        ("audio_encoder.use_causal_conv", "yes"),
    ],
)
def test_an_unsupported_config_is_refused(nano: Checkpoint, member: str, value: object) -> None:
    """A value that can't be reproduced exactly is an error that names config.json."""
    config: Any = copy.deepcopy(nano.config)
    part, _, key = member.rpartition(".")
    (config[part] if part else config)[key] = value

    with pytest.raises(CheckpointError, match=r"config\.json"):
        Shape.of(config)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("num_chroma", 24),
        ("num_chroma", "12"),
        ("chroma_length", 0),
        ("chroma_length", 1 << 17),
        ("chroma_length", 2.5),
    ],
)
def test_an_unsupported_melody_config_is_refused(melody: Checkpoint, member: str, value: object) -> None:
    """A value that can't be reproduced exactly is an error that names the member."""
    with pytest.raises(CheckpointError, match=rf"config\.json: {member} "):
        Shape.of({**melody.config, member: value})


def test_a_melody_model_has_a_prefix_in_place_of_cross_attention(melody: Checkpoint) -> None:
    """Of the tune's frames and a text; by default it is that of the published models."""
    decoder = Shape.of({**melody.config, "chroma_length": None, "num_chroma": None}).decoder

    assert (decoder.melody_frames, decoder.prefix_positions, decoder.has_cross_attention) == (235, 235 + 512, False)
    assert Shape.of({**melody.config, "chroma_length": 100}).decoder.melody_frames == 100


def test_a_non_causal_codec_cant_trim_one_side_more(nano: Checkpoint) -> None:
    """The error names the member; transformers refuses it, too."""
    config: Any = copy.deepcopy(nano.config)
    config["audio_encoder"] |= {"use_causal_conv": False, "trim_right_ratio": 0.5}

    with pytest.raises(CheckpointError, match="trim_right_ratio"):
        Shape.of(config)


def test_absent_members_have_the_defaults_of_transformers() -> None:
    """A config that names only the sizes that differ is enough."""
    shape = Shape.of(
        {"model_type": "musicgen", "text_encoder": {}, "decoder": {}, "audio_encoder": {"codebook_size": 2048}}
    )

    assert (shape.decoder.layers, shape.decoder.codebooks, shape.decoder.head_width) == (24, 4, 64)
    assert (shape.text.width, shape.text.activation, shape.text.gated) == (512, "relu", False)
    assert (shape.codec.hop, shape.codec.rate, shape.codec.pad_mode) == (320, 24_000, "reflect")
