"""
What is known of a pulled model: the file `manifest.json` in its folder, without which a folder isn't a pulled model.

It takes the place of weights that were not kept: their digest, so that a take names the checkpoint it was made with,
and the shapes of their tensors, so that the memory a model needs can be reckoned.
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
    """One file, as it was fetched; a weight file need not be here any more."""

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
    """Where a pulled model came from, and what it is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = _FORMAT
    source: str  # OWNER/REPO, or the folder that it was imported from
    revision: str | None  # the commit; None for a folder
    license: str | None  # of the weights; None is unknown
    checkpoint: str  # the digest
    weights_kept: bool
    files: Mapping[str, FileRecord]
    tensors: Mapping[str, tuple[int, ...]]  # name → shape
    fidelity: Mapping[str, float]  # precision → mean KL to float32, in nats

    def write(self, directory: Path) -> None:
        """Write it into a model's folder."""
        atomic.write(directory / MANIFEST, f"{self.model_dump_json(indent=1)}\n".encode(), mode=atomic.SHARED)


def read_manifest(directory: Path) -> Manifest | None:
    """
    Read the manifest of a pulled model; None where there is none.

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
        raise CheckpointError(f"{path} is damaged", hint=f"`musicgen model pull {directory.name}` again") from err
    if manifest.format != _FORMAT:
        raise CheckpointError(f"{path} was written by a newer version", hint="update musicgen")
    return manifest
