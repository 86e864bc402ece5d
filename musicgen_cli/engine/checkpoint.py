"""A model's name → its files: the bundled nano, a folder in the models directory, or a path."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from musicgen_cli.engine.tensors import Tensors, weight_files
from musicgen_cli.errors import CheckpointError, ModelAbsentError, UnknownModelError

NANO = "nano"
PUBLISHED = ("small", "medium", "large", "stereo-small", "stereo-medium", "stereo-large")  # facebook/musicgen-…
NAMES = ("auto", NANO, *PUBLISHED)

_BUNDLED = Path(__file__).parent.parent / "models" / NANO
_AUTO = ("small", "medium", "large")  # the first that is here
_PUBLISHED_LICENSE = "CC-BY-NC-4.0"  # model cards of facebook/musicgen-*
_NANO_LICENSE = "MIT"  # "nothing but this project's own licence applies to the weights" (models/nano/README.md)


@dataclass(frozen=True)
class Checkpoint:
    """The files of one model, and what its config.json says."""

    name: str
    directory: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]  # safetensors
    license: str | None  # SPDX, of the weights; None is unknown

    @cached_property
    def digest(self) -> str:
        """
        SHA-256 of config.json and the weights, one after the other: 64 hex digits.

        Reads every byte: about 1 s a gigabyte from the page cache, 3 s from a disk.
        """
        digest = hashlib.sha256()
        for path in (self.directory / "config.json", *self.weights):
            try:
                with path.open("rb") as file:
                    hashlib.file_digest(file, lambda: digest)
            except OSError as err:
                raise CheckpointError(f"can't read {path}: {err.strerror}") from err
        return digest.hexdigest()

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

    def tensors(self) -> Tensors:
        """Open the weights."""
        return Tensors(self.weights)


def resolve(name: str, models_dir: Path) -> Checkpoint:
    """
    Find the files of a model.

    Args:
        name: `auto` (the first of small, medium and large that is here whole, else nano), `nano`, the name of a
            published model, or the path of a checkpoint's folder.
        models_dir: Where published models lie, each in a folder of its name.

    Raises:
        UnknownModelError: Neither a known name nor a path.
        ModelAbsentError: A known name or a path, but nothing is there.
        CheckpointError: The folder is there, but not what a checkpoint needs.
    """
    if name == "auto":
        name = next((known for known in _AUTO if _is_whole(models_dir / known)), NANO)
    if name == NANO:
        return _open(name, _BUNDLED, _NANO_LICENSE)
    if name in PUBLISHED:
        directory = models_dir / name
        if not directory.is_dir():
            raise ModelAbsentError(
                f"the model {name!r} is not on this machine",
                hint=f"put the files of facebook/musicgen-{name} into {directory}, or name a folder with --model",
            )
        return _open(name, directory, _PUBLISHED_LICENSE)
    path = Path(name).expanduser()
    if path.is_dir():
        return _open(path.resolve().name, path, _license(path / "README.md"))
    if "/" in name or "\\" in name:
        raise ModelAbsentError(f"there is no folder {name!r}", hint="--model takes a name or a checkpoint's folder")
    raise UnknownModelError(
        f"no model is called {name!r}", hint=f"known are {', '.join(NAMES)}, and the path of a checkpoint's folder"
    )


def _open(name: str, directory: Path, license_: str | None) -> Checkpoint:
    path = directory / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as err:
        raise CheckpointError(f"{directory} has no config.json", hint="is it a checkpoint's folder?") from err
    except OSError as err:
        raise CheckpointError(f"can't read {path}: {err.strerror}") from err
    except (ValueError, RecursionError) as err:
        raise CheckpointError(f"{path} is not JSON") from err
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return Checkpoint(name, directory, config, weight_files(directory), license_)


def _is_whole(directory: Path) -> bool:
    try:
        return _open(directory.name, directory, None).tokenizer.is_file()
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
