"""Lists, describes, checks and removes the models on this machine."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgen_cli import foreign, limits
from musicgen_cli.actions.models.model_files import is_weights
from musicgen_cli.actions.models.staging import Staging
from musicgen_cli.checkpoint.checkpoint import (
    Checkpoint,
    find_checkpoint,
    hub_repository,
    local_name,
    weights_license,
)
from musicgen_cli.checkpoint.manifest import size_and_sha256
from musicgen_cli.checkpoint.names import NANO, installed_names, is_valid_name
from musicgen_cli.checkpoint.published import FIGURES
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.sizes import graph_bytes, parameters
from musicgen_cli.checkpoint.tensors import DroppedTensors
from musicgen_cli.engine import registry
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, num_frames, num_samples
from musicgen_cli.engine.hardware import estimate_memory
from musicgen_cli.engine.onnx.graph_cache import GRAPH_FORMAT, variant
from musicgen_cli.engine.onnx.graph_folders import MANIFEST as GRAPHS_MANIFEST
from musicgen_cli.engine.onnx.graph_folders import MANIFEST_BYTES, OBSTACLE, who_else
from musicgen_cli.errors import (
    CheckpointError,
    DamagedError,
    UnknownModelError,
    UsageError,
)

_ABOUT_NANO = (
    "a small synthesiser played by a language model, in MusicGen's format; trained only on pieces that a program of "
    "this project composed; no voices, no audio prompts; for Meta's model: musicgen model pull small"
)


@dataclass(frozen=True, slots=True)
class GraphFolder:
    """The prepared graphs of a model in one precision for one decoder."""

    directory: Path
    files: dict[str, tuple[int, str]]  # name → size in bytes and SHA-256

    @property
    def size_bytes(self) -> int:
        """The bytes that they take on disk."""
        return sum(size for size, _ in self.files.values())

    def damaged(self) -> list[str]:
        """Return the names of the files that have changed since they were written; reads all of them."""
        return [name for name, expected in self.files.items() if _actual(self.directory / name) != expected]


def prepared_graphs(checkpoint: Checkpoint, cache_dir: Path) -> dict[str, GraphFolder]:
    """
    Return the graphs of a checkpoint that this version can use; their content isn't checked.

    Returns:
        By the variant: the precision, or that and the decoder if it is not on ONNX Runtime.
    """
    folders = {}
    graphs = checkpoint.graph_cache_dir(cache_dir) / "graphs"
    try:
        paths = sorted(graphs.glob(f"{checkpoint.digest}-*/{GRAPHS_MANIFEST}"))
    except OSError:  # a cache that can't be read has nothing that can be used
        paths = []
    for path in paths:
        try:
            if who_else(path.parent) is not None:
                continue
            label = json.loads(foreign.read(path, MANIFEST_BYTES))
            files = {name: (entry["bytes"], entry["sha256"]) for name, entry in label["files"].items()}
            is_usable = label["format"] == GRAPH_FORMAT and OBSTACLE not in label
            if label["checkpoint"] == checkpoint.digest and is_usable:
                folders[variant(label)] = GraphFolder(path.parent, files)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # an unusable folder is made again when its precision is needed
    return folders


def installed_models(models_dir: Path, cache_dir: Path, warn: Callable[[str], None]) -> Iterator[Checkpoint]:
    """
    Yield the bundled model and those in the models directory.

    Args:
        warn: Called with one line about each folder that can't be opened.
    """
    yield find_checkpoint(NANO, models_dir, cache_dir)
    for name in installed_names(models_dir):
        try:
            yield find_checkpoint(name, models_dir, cache_dir)
        except CheckpointError as err:
            warn(f"{name}: {err}")


def summary(checkpoint: Checkpoint, cache_dir: Path) -> dict[str, Any]:
    """Return the fields that a list of models shows."""
    graphs = prepared_graphs(checkpoint, cache_dir)
    size = _size(checkpoint.directory)
    if checkpoint.manifest is None:
        size += sum(folder.size_bytes for folder in graphs.values())
    return {
        "name": checkpoint.name,
        "size_bytes": size,
        "precisions": list(graphs),
        "license": checkpoint.license,
        "source": _source(checkpoint),
    }


def details(checkpoint: Checkpoint, cache_dir: Path) -> dict[str, Any]:
    """Return all fields that are shown of one model."""
    shapes = Shape.of(checkpoint.config)
    manifest = checkpoint.manifest
    graphs = prepared_graphs(checkpoint, cache_dir)
    files = (
        {name: file.bytes for name, file in manifest.files.items()}
        if manifest
        else {path.name: path.stat().st_size for path in sorted(checkpoint.directory.iterdir()) if path.is_file()}
    )
    fidelity = manifest.fidelity if manifest else {}
    rejected = {precision: {"mean_kl": kl} for precision, kl in fidelity.items() if precision not in graphs}
    return summary(checkpoint, cache_dir) | {
        **({"about": _ABOUT_NANO} if checkpoint.name == NANO else {}),
        "revision": manifest.revision if manifest else None,
        "checkpoint": checkpoint.digest,
        "directory": str(checkpoint.directory),
        "weights_kept": bool(checkpoint.weights),
        "decoder": _decoder(checkpoint),
        "layers": shapes.decoder.layers,
        "width": shapes.decoder.width,
        "codebooks": shapes.decoder.codebooks,
        "channels": shapes.decoder.channels,
        "follows_melodies": not shapes.decoder.has_cross_attention,
        "sample_rate": shapes.codec.rate,
        "parameters": sum(math.prod(shape) for shape in checkpoint.tensors().shapes.values()),
        "files": files,
        "default_precision": checkpoint.precision or registry.DEFAULT_PRECISION,
        "precisions": {precision: {"size_bytes": folder.size_bytes} for precision, folder in graphs.items()},
        **({"too_far_from_float32": rejected} if rejected else {}),
    }


def _decoder(checkpoint: Checkpoint) -> str:
    """Say which engine computes the decoder's steps in int8 here if none is named, and why it isn't native."""
    obstacle = registry.native_obstacle(checkpoint)
    return f"onnx: {obstacle}" if obstacle else "native"


def figures(name: str) -> dict[str, Any] | None:
    """
    Return what is known of a published model that isn't on this machine, None if it isn't one of them.

    Disk is what a pull needs at its peak: for the weights, their graphs, and those in float32, if int8 is too far from
    them; memory is that of a process that makes one clip of 30 s.
    """
    stored = local_name(name)
    published = FIGURES.get(stored)
    if published is None:
        return None
    shape = Shape.of(published.config)
    counts = parameters(shape)
    tensors = DroppedTensors(stored, {prefix: (count,) for prefix, count in counts.items()})
    frames = num_frames(num_samples(limits.CONTEXT_S, shape.codec.rate), shape.codec.hop)
    steps = DelayPattern(shape.decoder.codebooks, shape.decoder.channels, frames).steps
    reference = graph_bytes(shape, int8=False)
    return {
        "name": stored,
        "installed": False,
        "source": hub_repository(stored),
        "license": weights_license(stored, None),
        "layers": shape.decoder.layers,
        "width": shape.decoder.width,
        "codebooks": shape.decoder.codebooks,
        "channels": shape.decoder.channels,
        "follows_melodies": not shape.decoder.has_cross_attention,
        "sample_rate": shape.codec.rate,
        "parameters": sum(counts.values()),
        "download_bytes": published.weights_bytes,
        "precisions": {
            precision: {
                "size_bytes": graph_bytes(shape, int8=int8),
                "pull_disk_bytes": published.weights_bytes + reference + (graph_bytes(shape, int8=True) if int8 else 0),
                "memory_bytes": estimate_memory(shape, tensors, steps=steps, int8=int8)[0],
            }
            for precision, int8 in (("int8", True), ("fp32", False))
        },
    }


def check(checkpoint: Checkpoint, cache_dir: Path) -> None:
    """
    Check every file of a model: those that were pulled against its manifest, and its graphs.

    Raises:
        DamagedError: A file has changed since it was pulled or written.
    """
    manifest = checkpoint.manifest
    damaged = [
        name
        for name, file in (manifest.files.items() if manifest else ())
        if (checkpoint.weights or not is_weights(name))
        and _actual(checkpoint.directory / name) != (file.bytes, file.sha256)
    ]
    for precision, folder in prepared_graphs(checkpoint, cache_dir).items():
        damaged += [f"{name} ({precision})" for name in folder.damaged()]
    if damaged:
        raise DamagedError(
            f"the model {checkpoint.name!r} is damaged: {', '.join(damaged)}",
            hint=f"`musicgen model pull {manifest.source}` repairs it"
            if manifest
            else "its graphs are made again when it is next used",
        )


@dataclass(frozen=True, slots=True)
class Removal:
    """A model that can be removed, and the bytes that this frees."""

    name: str
    size_bytes: int


def plan_removal(name: str, models_dir: Path) -> Removal:
    """
    Find out what removing a model would remove: the model, and what an unfinished pull left of it.

    Raises:
        UsageError: The model is part of musicgen.
        UnknownModelError: No such model is in the models directory.
    """
    if name == NANO:
        raise UsageError(f"{NANO!r} is part of musicgen and can't be removed")
    stored = local_name(name)
    staging = Staging(stored, models_dir)
    folders = [path for path in (staging.installed, staging.directory) if path.is_dir()]
    if not is_valid_name(stored) or not folders:
        raise UnknownModelError(
            f"no model {name!r} is in {models_dir}", hint="`musicgen model list` shows what is on this machine"
        )
    return Removal(stored, sum(_size(folder) for folder in folders))


def remove(name: str, models_dir: Path) -> None:
    """
    Remove a model, and what an unfinished pull left of it.

    Args:
        name: As `plan_removal` returns it.

    Raises:
        ModelBusyError: It is being pulled.
        ModelsFolderError: It can't be removed.
    """
    staging = Staging(name, models_dir)
    with staging.lock():
        staging.remove()


def _size(folder: Path) -> int:
    return sum(status.st_size for path in folder.rglob("*") if stat.S_ISREG((status := path.lstat()).st_mode))


def _source(checkpoint: Checkpoint) -> str:
    if checkpoint.name == NANO:
        return "musicgen"
    return checkpoint.manifest.source if checkpoint.manifest else str(checkpoint.directory)


def _actual(path: Path) -> tuple[int, str] | None:
    """Return a file's size and SHA-256; None if it can't be read."""
    try:
        return size_and_sha256(path)
    except OSError:
        return None
