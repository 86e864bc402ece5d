"""
A model's name → its files: the bundled nano, a model in the models directory, or a path.

    <models_dir>/small/                 one folder a model; OWNER/REPO is kept as OWNER--REPO
        config.json  tokenizer.json  README.md …
        manifest.json                   only of a model that was pulled; see manifest.py
        model.safetensors               only if it was kept
        graphs/<digest>-<precision>-v…  as in graph_cache.py
    <models_dir>/.pulling/small/        what a pull has so far; small.lock: who may write

The graphs of a pulled model live in its own folder, for they are all there is of it once its weights are dropped, and
the cache directory is anyone's to empty. The graphs of every other checkpoint can be made again, and live in the cache.
So a Checkpoint knows its `home`, and whoever needs its graphs asks there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from musicgen_cli.checkpoint.digest_cache import fingerprint, read_cached, write_cached
from musicgen_cli.checkpoint.manifest import Manifest, read_manifest
from musicgen_cli.checkpoint.names import MANIFEST, NAME_PATTERN, NAMES, NANO, PUBLISHED, is_valid_name
from musicgen_cli.checkpoint.tensors import DroppedTensors, Tensors, weight_files
from musicgen_cli.errors import CheckpointError, ModelAbsentError, UnknownModelError

_BUNDLED = Path(__file__).parents[1] / "models" / NANO
_AUTO = ("small", "medium", "large")  # the first that is here
_PUBLISHER = "facebook/musicgen-"
_PUBLISHED_LICENSE = "CC-BY-NC-4.0"  # model cards of facebook/musicgen-*
_NANO_LICENSE = "MIT"  # "nothing but this project's own licence applies to the weights" (models/nano/README.md)
_REPOSITORY = re.compile(rf"{NAME_PATTERN}/{NAME_PATTERN}", re.ASCII)
_BETWEEN = "--"  # which the hub allows in no name of its own


@dataclass(frozen=True)
class Checkpoint:
    """The files of one model, and what its config.json says."""

    name: str
    directory: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]  # safetensors; none where they weren't kept
    license: str | None  # SPDX, of the weights; None is unknown
    manifest: Manifest | None = None  # of a pulled model
    cache_dir: Path | None = None  # where its digest may be remembered

    @cached_property
    def digest(self) -> str:
        """
        SHA-256 of config.json and the weights, one after the other: 64 hex digits.

        A pulled model's manifest has it. Of another, every byte is read: about 1 s a gigabyte from the page cache, 3 s
        from a disk; and it is remembered until a file is touched.
        """
        if self.manifest:
            return self.manifest.checkpoint
        files = (self.directory / "config.json", *self.weights)
        try:
            state = fingerprint(files) if self.cache_dir else None
            if state and self.cache_dir and (known := read_cached(self.cache_dir, "digests", state)):
                return known
            found = _digest(files)
        except OSError as err:
            raise CheckpointError(f"can't read {err.filename}: {err.strerror}") from err
        if state and self.cache_dir:
            write_cached(self.cache_dir, "digests", state, found)
        return found

    @property
    def tokenizer(self) -> Path:
        """
        The tokenizer.json.

        Raises:
            CheckpointError: There is none.
        """
        path = self.directory / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(f"{self.directory} has no tokenizer.json", hint="it is published beside the weights")
        return path

    def graph_cache_dir(self, cache_dir: Path) -> Path:
        """Return where its graphs live: in its own folder if it was pulled, else in the cache."""
        return self.directory if self.manifest else cache_dir

    def tensors(self) -> Tensors:
        """Open the weights; of those that weren't kept, the shapes are there."""
        if self.manifest and not self.manifest.weights_kept:
            return DroppedTensors(self.name, self.manifest.tensors)
        return Tensors(self.weights)


def find_checkpoint(name: str, models_dir: Path, cache_dir: Path | None = None) -> Checkpoint:
    """
    Find the files of a model.

    Args:
        name: `auto` (the first of small, medium and large that is here whole, else nano), `nano`, the name of a model
            in the models directory, OWNER/REPO of one that was pulled, or the path of a checkpoint's folder.
        models_dir: Where pulled models lie, each in a folder of its name.
        cache_dir: Where digests may be remembered.

    Raises:
        UnknownModelError: Neither a known name nor a path.
        ModelAbsentError: A known name or a path, but nothing is there.
        CheckpointError: The folder is there, but not what a checkpoint needs.
    """
    if name == "auto":
        name = next((known for known in _AUTO if _is_whole(models_dir / known)), NANO)
    if name == NANO:
        return open_checkpoint(name, _BUNDLED, license_=_NANO_LICENSE, cache_dir=cache_dir)
    stored = local_name(name)
    kept = models_dir / stored
    if stored in PUBLISHED and kept.is_dir():
        return open_checkpoint(stored, kept, license_=_PUBLISHED_LICENSE, cache_dir=cache_dir)
    if is_valid_name(stored) and (kept / MANIFEST).is_file():
        return open_checkpoint(stored, kept, cache_dir=cache_dir)
    path = Path(name).expanduser()
    if name not in PUBLISHED and path.is_dir():
        return open_checkpoint(path.resolve().name, path, cache_dir=cache_dir)
    if hub_repository(name):
        raise ModelAbsentError(
            f"the model {name!r} is not on this machine", hint=f"`musicgen model pull {name}` fetches it"
        )
    if "/" in name or "\\" in name:
        raise ModelAbsentError(f"there is no folder {name!r}", hint="--model takes a name or a checkpoint's folder")
    raise UnknownModelError(
        f"no model is called {name!r}",
        hint=f"known are {', '.join(NAMES)}, what `musicgen model list` shows, OWNER/REPO, and a checkpoint's folder",
    )


def open_checkpoint(
    name: str, directory: Path, *, license_: str | None = None, cache_dir: Path | None = None
) -> Checkpoint:
    """
    Open a checkpoint's folder.

    Args:
        license_: Of the weights; else the manifest's or the model card's.

    Raises:
        CheckpointError: A file that it needs is absent or damaged.
    """
    manifest = read_manifest(directory)
    path = directory / "config.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError as err:
        raise CheckpointError(f"{directory} has no config.json", hint="is it a checkpoint's folder?") from err
    except OSError as err:
        raise CheckpointError(f"can't read {path}: {err.strerror}") from err
    return Checkpoint(
        name,
        directory,
        parse_config(content, str(path)),
        () if manifest and not manifest.weights_kept else weight_files(directory),
        license_ or (manifest.license if manifest else _license(directory / "README.md")),
        manifest,
        cache_dir,
    )


def parse_config(content: bytes, where: str) -> Mapping[str, Any]:
    """
    Read the bytes of a config.json.

    Raises:
        CheckpointError: They are no JSON object.
    """
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise CheckpointError(f"{where} is not JSON") from err
    if not isinstance(config, dict):
        raise CheckpointError(f"{where} is not a JSON object")
    return config


def hub_repository(name: str) -> str | None:
    """Return OWNER/REPO on the hub that a name stands for, if it can stand for one."""
    if name in PUBLISHED:
        return _PUBLISHER + name
    repository = name.replace(_BETWEEN, "/", 1) if "/" not in name else name
    return repository if _REPOSITORY.fullmatch(repository) else None


def local_name(repository: str) -> str:
    """Return the name under which a repository's model is kept here."""
    short = repository.removeprefix(_PUBLISHER)
    return short if short in PUBLISHED else repository.replace("/", _BETWEEN)


def is_absent(name: str, models_dir: Path) -> bool:
    """Tell whether a name stands for a model that could be pulled and isn't here."""
    try:
        find_checkpoint(name, models_dir)
    except ModelAbsentError:
        return hub_repository(name) is not None
    except (CheckpointError, UnknownModelError):
        return False
    return False


def weights_license(repository: str, card: str | None) -> str | None:
    """Return the licence of a repository's weights; `card` is what its model card says."""
    return _PUBLISHED_LICENSE if local_name(repository) in PUBLISHED else card


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _is_whole(directory: Path) -> bool:
    try:
        return open_checkpoint(directory.name, directory).tokenizer.is_file()
    except CheckpointError:
        return False


def _license(readme: Path) -> str | None:
    """Read `license:` from a model card's front matter."""
    try:
        text = readme.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:[ \t]*[\"']?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return found[1] if found else None
