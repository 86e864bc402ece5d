"""
Puts a model together from the files of its folder, whoever wrote them.

    config.json, tokenizer.json, model.safetensors      transformers' layout; also as shards, or as pytorch_model.bin
    state_dict.bin, compression_state_dict.bin          audiocraft's
    adapter_config.json, adapter_model.safetensors      a LoRA adapter
    base/                                               transformers' layout: the base model of an adapter, or the text
                                                        encoder and the tokenizer of a model of audiocraft's
    codec/                                              the codec that a compression_state_dict.bin only names
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgen_cli import foreign
from musicgen_cli.checkpoint.bounds import CONFIG_BYTES, JSON_BYTES
from musicgen_cli.checkpoint.lora import AdaptedTensors, parse_adapter_config
from musicgen_cli.checkpoint.safetensors_file import safetensors
from musicgen_cli.checkpoint.stored_tensor import StoredTensor
from musicgen_cli.checkpoint.tensors import Tensors
from musicgen_cli.checkpoint.torch_file import open_torch_file
from musicgen_cli.checkpoint.weight_files import (
    ADAPTER_CONFIG,
    CODEC,
    LANGUAGE_MODEL,
    Kind,
    WeightFiles,
    choose_weights,
    is_git_lfs_pointer,
)
from musicgen_cli.errors import CheckpointError

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
BASE_FOLDER, CODEC_FOLDER = "base", "codec"


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a folder's files make together."""

    kind: Kind
    config: Mapping[str, Any]
    files: tuple[Path, ...]  # all that decide what the model computes, in the order of its digest
    weights: tuple[Path, ...]  # those of them that hold weights
    tensors: Callable[[], Tensors]  # opens the weights


def assemble(directory: Path) -> Assembly:
    """
    Look at the files of a model's folder; weights are opened only where the config is in them.

    Raises:
        CheckpointError: A file is missing, damaged or of another kind.
        OSError: A file can't be read.
    """
    chosen = _choose(directory)
    weights = tuple(directory / name for name in chosen.names)
    if chosen.kind is Kind.TRANSFORMERS:
        config = read_config(directory)
        return Assembly(
            chosen.kind, config, (directory / CONFIG, *weights), weights, lambda: Tensors(_stored_tensors(weights))
        )
    base = _base(directory, chosen.kind)
    if chosen.kind is Kind.ADAPTER:
        path = directory / ADAPTER_CONFIG
        adapter = parse_adapter_config(foreign.read(path, JSON_BYTES), str(directory))
        parts = (*base.weights, *weights)
        return Assembly(
            chosen.kind,
            base.config,
            (directory / BASE_FOLDER / CONFIG, path, *parts),
            parts,
            lambda: AdaptedTensors(_stored_tensors(base.weights), _stored_tensors(weights), adapter),
        )
    return _audiocraft(directory, weights, base)


def read_config(directory: Path) -> Mapping[str, Any]:
    """
    Read a folder's config.json.

    Raises:
        CheckpointError: There is none, or it is not a JSON object.
        OSError: It can't be read.
    """
    try:
        content = foreign.read(directory / CONFIG, CONFIG_BYTES)
    except FileNotFoundError as err:
        raise CheckpointError(f"{directory} has no {CONFIG}", hint="is it a checkpoint's folder?") from err
    return parse_config(content, str(directory / CONFIG))


def parse_config(content: bytes, file_name: str) -> Mapping[str, Any]:
    """
    Parse the bytes of a config.json.

    Args:
        file_name: The name of the file, for messages.

    Raises:
        CheckpointError: They are not a JSON object.
    """
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise CheckpointError(f"{file_name} is not JSON") from err
    if not isinstance(config, dict):
        raise CheckpointError(f"{file_name} is not a JSON object")
    return config


def folder_weights(directory: Path) -> tuple[Kind, tuple[str, ...]]:
    """
    Return the kind of a folder's model, and the names of the files of weights in it, with an index of them.

    Raises:
        CheckpointError: As for `assemble`.
        OSError: The folder can't be read.
    """
    chosen = _choose(directory)
    return chosen.kind, (chosen.index, *chosen.names) if chosen.index else chosen.names


def _choose(directory: Path) -> WeightFiles:
    names = {path.name for path in directory.iterdir() if path.is_file()}
    if CONFIG not in names and not names & {LANGUAGE_MODEL, ADAPTER_CONFIG}:
        raise CheckpointError(f"{directory} has no {CONFIG}", hint="is it a checkpoint's folder?")
    return choose_weights(names, lambda name: foreign.read(directory / name, JSON_BYTES), str(directory))


def _base(directory: Path, kind: Kind) -> Assembly:
    """Open the model beside an adapter or a model of audiocraft's, which has what these lack."""
    folder = directory / BASE_FOLDER
    if not folder.is_dir():
        lacks = "its base model" if kind is Kind.ADAPTER else "a text encoder"
        raise CheckpointError(
            f"{directory} comes without {lacks}", hint=f"`musicgen model pull {directory}` downloads it beside a copy"
        )
    if _choose(folder).kind is not Kind.TRANSFORMERS:
        raise CheckpointError(f"{folder} isn't a complete model in transformers' layout")
    return assemble(folder)


def _audiocraft(directory: Path, weights: tuple[Path, ...], base: Assembly) -> Assembly:
    """Put together a language model of audiocraft's, its codec, and T5 from another model."""
    # Only here: the parser of YAML that it imports is needed by nothing else.
    from musicgen_cli.checkpoint import audiocraft

    model, codec = (open_torch_file(path) for path in weights)
    decoder = audiocraft.decoder_tensors(model)
    codec_config: Mapping[str, Any]
    codec_files: tuple[Path, ...] = ()
    if audiocraft.codec_repository(codec) is None:
        codec_config, codec_tensors = audiocraft.codec_config(codec), audiocraft.codec_tensors(codec)
    else:
        codec_config, codec_tensors, codec_files = _named_codec(directory / CODEC_FOLDER)
    own = directory / CONFIG
    config: Mapping[str, Any] = (
        read_config(directory)
        if own.is_file()
        else {
            **audiocraft.model_config(model, decoder),
            "text_encoder": base.config.get("text_encoder"),
            "audio_encoder": codec_config,
        }
    )
    text = {n: t for n, t in _stored_tensors(base.weights).items() if n.startswith("text_encoder.")}
    parts = (*weights, *codec_files, *base.weights)
    configs = (own,) if own.is_file() else (directory / BASE_FOLDER / CONFIG,)
    return Assembly(Kind.AUDIOCRAFT, config, (*configs, *parts), parts, lambda: Tensors(text | decoder | codec_tensors))


def _named_codec(folder: Path) -> tuple[Mapping[str, Any], dict[str, StoredTensor], tuple[Path, ...]]:
    """Open the codec that a compression_state_dict.bin names: transformers' EnCodec, or one of audiocraft's."""
    from musicgen_cli.checkpoint import audiocraft

    if (folder / CODEC).is_file():
        codec = open_torch_file(folder / CODEC)
        return audiocraft.codec_config(codec), audiocraft.codec_tensors(codec), (folder / CODEC,)
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder.parent} only names its codec", hint=f"`musicgen model pull {folder.parent}` downloads it"
        )
    config, chosen = read_config(folder), _choose(folder)
    weights = tuple(folder / name for name in chosen.names)
    tensors = {f"audio_encoder.{name}": stored for name, stored in _stored_tensors(weights).items()}
    return config, tensors, weights


def _stored_tensors(files: tuple[Path, ...]) -> dict[str, StoredTensor]:
    """Open files of weights, each by its format."""
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        _check_is_here(path)
        tensors |= safetensors(path) if path.suffix == ".safetensors" else open_torch_file(path).tensors()
    return tensors


def _check_is_here(path: Path) -> None:
    """
    Check that a file isn't the placeholder of one that Git LFS has not downloaded.

    Raises:
        CheckpointError: It is one.
    """
    try:
        with foreign.open_file(path) as file:
            start = file.read(64)
    except OSError as err:
        raise CheckpointError(f"can't read {path}: {err.strerror}") from err
    if is_git_lfs_pointer(start):
        raise CheckpointError(
            f"{path} is a pointer of Git LFS, not the weights", hint="`git lfs pull` in that folder downloads them"
        )
