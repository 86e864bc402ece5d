"""
The file `manifest.json` in the folder of a pulled model, which records where the model came from.

Where the weights were not kept, it holds what is still needed of them: their digest, so that a take can name its
checkpoint, and the shapes of their tensors, from which the model's memory is estimated.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from musicgen_cli import atomic, foreign
from musicgen_cli.checkpoint.bounds import JSON_BYTES, WEIGHTS_BYTES
from musicgen_cli.checkpoint.names import MANIFEST
from musicgen_cli.errors import CheckpointError

_FORMAT = 1

# In the model's own folder, or in those of its parts (assembly.py).
_FileName = Annotated[str, Field(pattern=r"^((base|codec)/)?[^/\\\x00]{1,255}$")]
_Dimension = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]
_Precision = Annotated[str, Field(pattern="^(int8|fp32)$")]
_Nats = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class FileRecord(BaseModel):
    """A file as it was pulled; the files of weights may have been removed since."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int = Field(strict=True, ge=0, le=WEIGHTS_BYTES)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


def size_and_sha256(path: Path) -> tuple[int, str]:
    """
    Return a file's size and SHA-256.

    Raises:
        OSError: It can't be read.
    """
    with foreign.open_file(path) as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


class Manifest(BaseModel):
    """Where a pulled model came from, and which files and tensors it had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = _FORMAT
    source: str  # OWNER/REPO on the hub, or the folder that was imported
    revision: str | None  # the commit; None for a folder
    license: str | None  # of the weights; None is unknown
    checkpoint: str = Field(pattern="^[0-9a-f]{64}$")  # the digest of config and weights; see Checkpoint.digest
    weights_kept: bool
    files: Mapping[_FileName, FileRecord]
    tensors: Mapping[str, tuple[_Dimension, ...]]  # name → shape
    fidelity: Mapping[str, _Nats]  # precision → mean KL to float32, in nats; also of one that wasn't kept for it
    precision: _Precision | None = None  # in which it is loaded; None is the engine's default

    def write(self, directory: Path) -> None:
        """Write the manifest into a model's folder."""
        atomic.write(directory / MANIFEST, f"{self.model_dump_json(indent=1)}\n".encode())


def read_manifest(directory: Path) -> Manifest | None:
    """
    Read the manifest in a model's folder; None if there is none.

    Raises:
        CheckpointError: It can't be read, or was written by a newer version.
    """
    path = directory / MANIFEST
    try:
        manifest = Manifest.model_validate_json(foreign.read(path, JSON_BYTES))
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
