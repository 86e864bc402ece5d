"""A repository of the hub, as it lists itself: its files, with sizes and hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, Field, ValidationError

from musicgen_cli import foreign

_MOST_FILES = 50_000  # of a repository


class _Lfs(BaseModel):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _Sibling(BaseModel):
    rfilename: str = Field(max_length=1000)
    size: int | None = Field(None, ge=0, lt=1 << 63)
    blobId: str | None = None  # noqa: N815  # the hub's field name
    lfs: _Lfs | None = None


class _ModelInfo(BaseModel):
    id: str | None = Field(None, max_length=200)
    sha: str | None = Field(None, pattern="^[0-9a-f]{40,64}$")
    siblings: list[_Sibling] = Field(max_length=_MOST_FILES)
    cardData: dict[str, Any] | None = None  # noqa: N815


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository."""

    name: str
    size: int  # bytes
    sha256: str | None  # of a file that Git LFS stores
    blob: str | None  # Git's SHA-1 of the blob

    def partial(self, directory: Path) -> Path:
        """Return the path of a partial download; its name contains the file's hash, so that revisions don't mix."""
        return directory / f"{self.name}.{self._expected_hash[:16]}.part"

    def is_at(self, path: Path) -> bool:
        """
        Tell whether a local file has exactly this content.

        Raises:
            OSError: It can't be read.
        """
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        with foreign.open_file(path) as file:
            return self.matches(file)

    def matches(self, content: BinaryIO) -> bool:
        """Compare the hash of some bytes, from the current position on, with the one that the hub lists."""
        hasher = hashlib.sha256() if self.sha256 else hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        hashlib.file_digest(content, lambda: hasher)  # type: ignore[arg-type]  # BinaryIO has what it needs
        return hasher.hexdigest() == self._expected_hash

    @property
    def _expected_hash(self) -> str:
        return self.sha256 or self.blob or ""


@dataclass(frozen=True, slots=True)
class Repository:
    """One revision of a repository."""

    id: str  # OWNER/REPO
    commit: str  # or the revision that was asked for, at a mirror that doesn't tell the commit
    license: str | None  # as its model card says
    names: Collection[str]  # of its files
    files: Mapping[str, RemoteFile]  # those that are listed with size and hash
    current_id: str  # differs from `id` if the repository was renamed


def parse_listing(content: bytes, name: str, revision: str | None = None) -> Repository | None:
    """
    Parse the hub's answer to `GET /api/models/{name}?blobs=true`; None if it is something else.

    Args:
        name: OWNER/REPO, as it was asked for.
        revision: The branch, tag or commit that was asked for; None is the main branch.
    """
    try:
        info = _ModelInfo.model_validate_json(content)
    except ValidationError:
        return None
    license_ = (info.cardData or {}).get("license")
    return Repository(
        name,
        info.sha or revision or "main",
        license_ if isinstance(license_, str) else None,
        frozenset(file.rfilename for file in info.siblings),
        {
            file.rfilename: RemoteFile(file.rfilename, file.size, file.lfs.sha256 if file.lfs else None, file.blobId)
            for file in info.siblings
            if file.size is not None and (file.lfs or file.blobId)
        },
        info.id or name,
    )
