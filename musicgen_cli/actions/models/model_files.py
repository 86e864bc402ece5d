"""Which files of a repository or a folder belong to a model: config, tokenizer, weights, and a few that describe it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.tensors import PICKLE_SUFFIXES, WEIGHTS_FILE, WEIGHTS_INDEX, parse_shard_index
from musicgen_cli.errors import CheckpointError

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.hub import Hub
    from musicgen_cli.checkpoint.repository import RemoteFile, Repository

CONFIG = "config.json"

_REQUIRED = (CONFIG, "tokenizer.json")
_OPTIONAL = (
    "README.md",  # the model card, with the licence
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


def remote_files(hub: Hub, repository: Repository, note: Callable[[str], None]) -> list[RemoteFile]:
    """
    Choose the files of a repository that are downloaded, small ones first; the index of shards is read for it.

    Args:
        note: Called with one line for each request that failed and is repeated.

    Raises:
        CheckpointError: A file that a model needs isn't there, or the weights are there only as pickle.
        MusicgenError: As for `Hub.read`.
    """
    published = repository.names
    names = [*_REQUIRED, *(name for name in _OPTIONAL if name in published)]
    if WEIGHTS_FILE in published:
        names.append(WEIGHTS_FILE)
    elif WEIGHTS_INDEX in published:
        index = hub.read(repository, hub.file(repository, WEIGHTS_INDEX), note)
        names += [WEIGHTS_INDEX, *parse_shard_index(index, f"{WEIGHTS_INDEX} of {repository.id}")]
    elif pickles := sorted(name for name in published if Path(name).suffix in PICKLE_SUFFIXES):
        raise CheckpointError(
            f"{repository.id} has its weights only as {pickles[0]}, which is pickle and never downloaded",
            hint=f"its owner can publish {WEIGHTS_FILE} beside it",
        )
    else:
        names.append(WEIGHTS_FILE)
    for name in names:
        if name not in published:
            raise CheckpointError(f"{repository.id} has no {name}", hint="a model needs config, tokenizer and weights")
    return [hub.file(repository, name) for name in names]


def local_files(checkpoint: Checkpoint) -> list[Path]:
    """
    Choose the files of a folder that are imported.

    Raises:
        CheckpointError: There is no tokenizer.
    """
    described = (checkpoint.directory / name for name in (CONFIG, WEIGHTS_INDEX, *_OPTIONAL))
    files = [checkpoint.tokenizer, *described, *checkpoint.weights]
    return [path for path in files if path.is_file()]


def is_weights(name: str) -> bool:
    """Tell whether a file of these holds weights."""
    return name.endswith(".safetensors")
