"""
The file `manifest.json` in the folder of a pulled model, which records where the model came from.

Where the weights were not kept, it holds what is still needed of them: their digest, so that a take can name its
checkpoint, and the shapes of their tensors, from which the model's memory is estimated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from musicgen_cli import atomic
from musicgen_cli.checkpoint.names import MANIFEST
from musicgen_cli.errors import CheckpointError

_FORMAT = 1


class FileRecord(BaseModel):
    """A file as it was pulled; the files of weights may have been removed since."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


def size_and_sha256(path: Path) -> tuple[int, str]:
    """
    Return a file's size and SHA-256.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


class Manifest(BaseModel):
    """Where a pulled model came from, and which files and tensors it had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = _FORMAT
    source: str  # OWNER/REPO on the hub, or the folder that was imported
    revision: str | None  # the commit; None for a folder
    license: str | None  # of the weights; None is unknown
    checkpoint: str  # the digest of config and weights; see Checkpoint.digest
    weights_kept: bool
    files: Mapping[str, FileRecord]
    tensors: Mapping[str, tuple[int, ...]]  # name → shape
    fidelity: Mapping[str, float]  # precision → mean KL to float32, in nats

    def write(self, directory: Path) -> None:
        """Write the manifest into a model's folder."""
        atomic.write(directory / MANIFEST, f"{self.model_dump_json(indent=1)}\n".encode(), mode=atomic.SHARED)


def read_manifest(directory: Path) -> Manifest | None:
    """
    Read the manifest in a model's folder; None if there is none.

    Raises:
        CheckpointError: It can't be read, or was written by a newer version.
    """
    path = directory / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as err:
        raise CheckpointError(f"can't read {path}: {err.strerror}") from err
    except ValidationError as err:
        raise CheckpointError(
            f"{path} is damaged",
            hint=f"`musicgen model pull {directory.name}` again repairs it; pull an imported one from its folder",
        ) from err
    if manifest.format != _FORMAT:
        raise CheckpointError(f"{path} was written by a newer version", hint="update musicgen")
    return manifest
