"""
Which files of a folder or a repository hold a model's weights.

The choice needs only the names of the files, and an index of shards where there is one, so that it is the same for a
folder here and for a repository that hasn't been downloaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath

from musicgen_cli.checkpoint.bounds import MOST_SHARDS
from musicgen_cli.checkpoint.stored_tensor import DOWNLOAD_AGAIN
from musicgen_cli.errors import CheckpointError

WEIGHTS_FILE, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
TORCH_FILE, TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
LANGUAGE_MODEL, CODEC = "state_dict.bin", "compression_state_dict.bin"  # audiocraft's
ADAPTER_CONFIG, ADAPTER_FILES = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")

_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".th", ".ckpt", ".pkl"})
_OF_TRAINING = re.compile(r"training_args|optimizer|scheduler|rng_state|random_states|scaler")  # what trainers add
_READ = f"{WEIGHTS_FILE}, {TORCH_FILE} and audiocraft's {LANGUAGE_MODEL} are read"


class Kind(Enum):
    """Who wrote the weights, which decides the names of the tensors and where the config is."""

    TRANSFORMERS = "transformers"
    AUDIOCRAFT = "audiocraft"
    ADAPTER = "adapter"  # changes to the weights of another model


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files of weights, by name."""

    kind: Kind
    names: tuple[str, ...]
    index: str | None = None  # the file that names them


def choose_weights(names: Collection[str], read: Callable[[str], bytes], place: str) -> WeightFiles:
    """
    Choose the files of weights: safetensors first, and transformers' before audiocraft's.

    An index whose shards are all missing is ignored: musicgen-large has one beside its pickled shards.

    Args:
        names: Of all files; those in a subfolder have a slash.
        read: Returns the bytes of a small file.
        place: The folder or the repository, for messages.

    Raises:
        CheckpointError: There are none that can be read; the message names what is there instead.
    """
    if WEIGHTS_FILE in names:
        return WeightFiles(Kind.TRANSFORMERS, (WEIGHTS_FILE,))
    if shards := _shards(WEIGHTS_INDEX, ".safetensors", names, read, place):
        return WeightFiles(Kind.TRANSFORMERS, shards, WEIGHTS_INDEX)
    if TORCH_FILE in names:
        return WeightFiles(Kind.TRANSFORMERS, (TORCH_FILE,))
    if shards := _shards(TORCH_INDEX, ".bin", names, read, place):
        return WeightFiles(Kind.TRANSFORMERS, shards, TORCH_INDEX)
    if LANGUAGE_MODEL in names:
        if CODEC not in names:
            raise CheckpointError(
                f"{place} has audiocraft's {LANGUAGE_MODEL} but no {CODEC}",
                hint="copy that of the model from which it was trained beside it",
            )
        return WeightFiles(Kind.AUDIOCRAFT, (LANGUAGE_MODEL, CODEC))
    if adapter := next((name for name in ADAPTER_FILES if name in names and ADAPTER_CONFIG in names), None):
        return WeightFiles(Kind.ADAPTER, (adapter,))
    raise _no_weights(names, place)


def is_git_lfs_pointer(start: bytes) -> bool:
    """Tell whether a file that begins with these bytes stands for one that Git LFS has not downloaded."""
    return start.startswith(b"version https://git-lfs.github.com/spec/")


def parse_shard_index(index: bytes, file_name: str, suffix: str = ".safetensors") -> list[str]:
    """
    Return the names of the shards in an index of weights, each once, sorted.

    Args:
        index: The bytes of the index.
        file_name: The name of that file, for messages.
        suffix: Of the shards.

    Raises:
        CheckpointError: It can't be parsed, or it names anything but files with that suffix in its own folder.
    """
    try:
        shards = sorted(set(json.loads(index)["weight_map"].values()))
        elsewhere = [shard for shard in shards if PurePosixPath(shard).name != shard or not shard.endswith(suffix)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
        raise CheckpointError(f"can't read {file_name}", hint=DOWNLOAD_AGAIN) from err
    if not shards or elsewhere or len(shards) > MOST_SHARDS:
        raise CheckpointError(f"{file_name} doesn't name {suffix.removeprefix('.')} files in its own folder")
    return shards


def _shards(
    index: str, suffix: str, names: Collection[str], read: Callable[[str], bytes], place: str
) -> tuple[str, ...]:
    """Return the shards that an index names, none if it isn't there or none of them is."""
    if index not in names:
        return ()
    shards = parse_shard_index(read(index), f"{index} of {place}", suffix)
    missing = [shard for shard in shards if shard not in names]
    if missing and len(missing) < len(shards):
        raise CheckpointError(f"{place} has no {missing[0]}, which its index names", hint=DOWNLOAD_AGAIN)
    return () if missing else tuple(shards)


def _no_weights(names: Collection[str], place: str) -> CheckpointError:
    """Return the error that says what is there instead of weights that can be read."""
    paths = sorted(map(PurePosixPath, names))
    for index in (WEIGHTS_INDEX, TORCH_INDEX):
        if index in names:
            return CheckpointError(f"{place} has none of the shards that its {index} names", hint=DOWNLOAD_AGAIN)
    if gguf := next((path for path in paths if path.suffix == ".gguf"), None):
        return CheckpointError(f"{place} has its weights only as GGUF ({gguf.name}), which isn't read", hint=_READ)
    if graph := next((path for path in paths if path.suffix in {".onnx", ".ort"}), None):
        return CheckpointError(
            f"{place} has its weights only as ONNX graphs ({graph.name}) of another program, which aren't read",
            hint="name the model that they were made from; musicgen makes its own graphs",
        )
    pickles = [path for path in paths if path.suffix in _PICKLE_SUFFIXES and not _OF_TRAINING.search(path.name)]
    if pickles:
        return CheckpointError(f"{place} has its weights only as {pickles[0]}, whose layout isn't known", hint=_READ)
    return CheckpointError(f"{place} has no {WEIGHTS_FILE}", hint=_READ)
