"""
Finds a model's files by its name: the bundled nano, a model in the models directory, or a path.

    <models_dir>/small/                 one folder for each model; OWNER/REPO is stored as OWNER--REPO
        config.json  tokenizer.json  README.md …
        manifest.json                   only in a model that was pulled; see manifest.py
        model.safetensors               only if the weights were kept
        graphs/<digest>-<precision>-v…  as in graph_cache.py
    <models_dir>/.pulling/              unfinished pulls; see staging.py in actions/models

The graphs of a pulled model are in its own folder: once its weights are removed they can't be made again, and users may
empty the cache directory at any time. The graphs of every other checkpoint can be made again, and are in the cache.
`Checkpoint.graph_cache_dir` returns the right one of the two.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from musicgen_cli import foreign
from musicgen_cli.checkpoint.assembly import BASE_FOLDER, CONFIG, TOKENIZER, Assembly, assemble, read_config
from musicgen_cli.checkpoint.digest_cache import fingerprint, read_cached, write_cached
from musicgen_cli.checkpoint.hub_cache import find_snapshot
from musicgen_cli.checkpoint.manifest import Manifest, read_manifest
from musicgen_cli.checkpoint.model_card import license_of
from musicgen_cli.checkpoint.names import MANIFEST, NAME_PATTERN, NAMES, NANO, PUBLISHED, is_valid_name
from musicgen_cli.checkpoint.published import PUBLISHER, check_can_be_run
from musicgen_cli.checkpoint.tensors import DroppedTensors, Tensors
from musicgen_cli.errors import CheckpointError, ModelAbsentError, UnknownModelError, system_reason

_BUNDLED = Path(__file__).parents[1] / "models" / NANO
_AUTO = ("small", "medium", "large")  # in the order in which they are looked for
_PUBLISHED_LICENSE = "CC-BY-NC-4.0"  # model cards of facebook/musicgen-*
_NANO_LICENSE = "MIT"  # the project's own licence; the weights have no other source (models/nano/README.md)
_REPOSITORY = re.compile(rf"{NAME_PATTERN}/{NAME_PATTERN}", re.ASCII)
_SEPARATOR = "--"  # stands for the slash in a folder's name; the hub allows it in no name


@dataclass(frozen=True)
class Checkpoint:
    """The files of one model, and its parsed config.json."""

    name: str
    directory: Path
    config: Mapping[str, Any]
    assembly: Assembly | None  # None if the weights weren't kept
    license: str | None  # SPDX identifier, of the weights; None is unknown
    manifest: Manifest | None = None  # only a pulled model has one
    cache_dir: Path | None = None  # where its digest may be cached

    @cached_property
    def digest(self) -> str:
        """
        The SHA-256 of config.json followed by the weights, as 64 hex digits.

        The manifest of a pulled model records it. For other checkpoints every byte is read, which takes about 1 s per
        gigabyte from the page cache and 3 s from a disk; the result is cached until one of the files changes.

        Raises:
            CheckpointError: A file can't be read, or doesn't hold tensors.
        """
        if self.manifest:
            return self.manifest.checkpoint
        files = self.assembly.files if self.assembly else ()
        try:
            state = fingerprint(files) if self.cache_dir else None
            if state and self.cache_dir and (cached := read_cached(self.cache_dir, "digests", state)):
                return cached
            self.tensors()  # what is no checkpoint is refused before gigabytes of it are read
            digest = _digest(files)
        except OSError as err:
            raise CheckpointError(f"can't read {err.filename}: {err.strerror}") from err
        if state and self.cache_dir:
            write_cached(self.cache_dir, "digests", state, digest)
        return digest

    @property
    def weights(self) -> tuple[Path, ...]:
        """The files of weights; none if they weren't kept."""
        return self.assembly.weights if self.assembly else ()

    @property
    def is_safetensors(self) -> bool:
        """Whether its weights are safetensors of its own, as transformers loads them."""
        return bool(self.weights) and all(
            path.suffix == ".safetensors" and path.parent == self.directory for path in self.weights
        )

    @property
    def tokenizer(self) -> Path:
        """
        The path of the tokenizer.json, the model's own or that of its base model.

        Raises:
            CheckpointError: The folder has none.
        """
        for path in (self.directory / TOKENIZER, self.directory / BASE_FOLDER / TOKENIZER):
            if path.is_file():
                return path
        raise no_tokenizer(str(self.directory), {path.name for path in self.directory.iterdir()})

    def graph_cache_dir(self, cache_dir: Path) -> Path:
        """Return the folder that holds `graphs/`: the model's own if it was pulled, else the cache."""
        return self.directory if self.manifest else cache_dir

    @property
    def precision(self) -> str | None:
        """The precision in which the model is loaded where none is asked for; None is the engine's default."""
        return self.manifest.precision if self.manifest else None

    def tensors(self) -> Tensors:
        """Open the weights; if they weren't kept, only the shapes of the tensors are available."""
        if self.assembly is None:
            return DroppedTensors(self.name, self.manifest.tensors if self.manifest else {})
        return self.assembly.tensors()


def find_checkpoint(name: str, models_dir: Path, cache_dir: Path | None = None) -> Checkpoint:
    """
    Find a model by its name, and open it.

    Args:
        name: `auto` (the first of small, medium and large that is complete, else nano), `nano`, the name of a model in
            the models directory, OWNER/REPO of one that was pulled, or the path of a checkpoint's folder.
        models_dir: The folder of pulled models, each in a folder of its name.
        cache_dir: Where digests may be cached; None: not at all.

    Raises:
        UnknownModelError: The name is neither that of a model nor a path.
        ModelAbsentError: The name could be that of a model or a path, but there is nothing on this machine.
        CheckpointError: The folder exists, but a file that a checkpoint needs is absent or damaged.
    """
    if name == "auto":
        name = next((candidate for candidate in _AUTO if _is_complete(models_dir / candidate)), NANO)
    if name == NANO:
        return open_checkpoint(name, _BUNDLED, license_=_NANO_LICENSE, cache_dir=cache_dir)
    stored = local_name(name)
    installed = models_dir / stored
    with _readable():
        if stored in PUBLISHED and installed.is_dir():
            return open_checkpoint(stored, installed, license_=_PUBLISHED_LICENSE, cache_dir=cache_dir)
        if is_valid_name(stored) and (installed / MANIFEST).is_file():
            return open_checkpoint(stored, installed, cache_dir=cache_dir)
    if (folder := named_folder(name)) is not None:
        if snapshot := find_snapshot(folder.resolve()):
            name, folder = local_name(snapshot.repository), snapshot.directory
            return open_checkpoint(
                name, folder, license_=weights_license(snapshot.repository, None), cache_dir=cache_dir
            )
        return open_checkpoint(folder.resolve().name, folder, cache_dir=cache_dir)
    if repository := hub_repository(name):
        check_can_be_run(repository)
        raise ModelAbsentError(
            f"the model {name!r} is not on this machine", hint=f"`musicgen model pull {name}` downloads it"
        )
    if "/" in name or "\\" in name:
        raise ModelAbsentError(f"there is no folder {name!r}", hint="--model takes a name or a checkpoint's folder")
    raise UnknownModelError(
        f"no model is called {name!r}",
        hint=f"a model is one of {', '.join(NAMES)}, one that `musicgen model list` shows, OWNER/REPO, or a folder",
    )


def named_folder(name: str) -> Path | None:
    """
    Return the folder that a model's name names as a path, None if it names none.

    Raises:
        CheckpointError: Whether there is a folder can't be told, for instance because one may not enter its parent.
    """
    if name in PUBLISHED:
        return None
    with _readable():
        try:
            path = Path(name).expanduser()
        except RuntimeError:  # ~USER, and there is no such user
            return None
        return path if path.is_dir() else None


@contextmanager
def _readable() -> Iterator[None]:
    """Turn an `OSError` into a `CheckpointError` that names the path."""
    try:
        yield
    except OSError as err:
        raise CheckpointError(
            f"can't read {os.fsdecode(err.filename)!r}: {system_reason(err)}",
            hint="`--model` takes a name or a checkpoint's folder",
        ) from err


def open_checkpoint(
    name: str, directory: Path, *, license_: str | None = None, cache_dir: Path | None = None
) -> Checkpoint:
    """
    Open a checkpoint's folder.

    Args:
        license_: The licence of the weights; None: as the manifest or the model card says.

    Raises:
        CheckpointError: A file that a checkpoint needs is absent or damaged.
    """
    manifest = read_manifest(directory)
    with _readable():
        try:
            assembly = None if manifest and not manifest.weights_kept else assemble(directory)
            config = assembly.config if assembly else read_config(directory)
        except (FileNotFoundError, NotADirectoryError) as err:
            raise CheckpointError(f"{directory} has no {CONFIG}", hint="is it a checkpoint's folder?") from err
    return Checkpoint(
        name,
        directory,
        config,
        assembly,
        license_ or (manifest.license if manifest else license_of(directory / "README.md")),
        manifest,
        cache_dir,
    )


def no_tokenizer(place: str, names: Collection[str]) -> CheckpointError:
    """Return the error for a folder or a repository without a tokenizer.json."""
    if "spiece.model" in names:
        return CheckpointError(
            f"{place} has its tokenizer only as spiece.model, not as {TOKENIZER}",
            hint=f"transformers' AutoTokenizer writes {TOKENIZER}; if the text encoder is T5, the one of "
            f"{PUBLISHER}small is the same",
        )
    return CheckpointError(f"{place} has no {TOKENIZER}", hint="download it from where the weights came from")


def hub_repository(name: str) -> str | None:
    """Return the hub repository of a model's name, as OWNER/REPO; None if the name can't be that of a repository."""
    if name in PUBLISHED:
        return PUBLISHER + name
    repository = name.replace(_SEPARATOR, "/", 1) if "/" not in name else name
    return repository if _REPOSITORY.fullmatch(repository) else None


def local_name(repository: str) -> str:
    """Return the name that a repository's model has on this machine, which is that of its folder."""
    short = repository.removeprefix(PUBLISHER)
    return short if short in PUBLISHED else repository.replace("/", _SEPARATOR)


def is_absent(name: str, models_dir: Path) -> bool:
    """Tell whether a name stands for a model that can be pulled and isn't on this machine."""
    try:
        find_checkpoint(name, models_dir)
    except ModelAbsentError:
        return hub_repository(name) is not None
    except (CheckpointError, UnknownModelError):
        return False
    return False


def weights_license(repository: str, card_license: str | None) -> str | None:
    """Return the licence of a repository's weights, given the one that its model card names."""
    return _PUBLISHED_LICENSE if local_name(repository) in PUBLISHED else card_license


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with foreign.open_file(path) as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _is_complete(directory: Path) -> bool:
    try:
        return open_checkpoint(directory.name, directory).tokenizer.is_file()
    except CheckpointError:
        return False
