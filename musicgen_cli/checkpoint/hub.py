"""
Fetches files of a model from the Hugging Face Hub; the only file that imports huggingface_hub.

Of that library this takes what must be the same for every program on the machine: the endpoint (`HF_ENDPOINT`), the
token (`HF_TOKEN`, or that of `hf auth login`), the offline flag, addresses and headers. The requests are made here:
the library checks a file's size alone where we want its hash, tells progress only through a bar of its own, keeps a
cache of its own, and has changed its HTTP client with a major version, so its failures can't be caught by one name.

A repository's files are listed with their hashes by `GET /api/models/{repo}?blobs=true`: SHA-256 where Git LFS keeps
them, else Git's own SHA-1 of the blob. Source: huggingface_hub, hf_api.py (model_info, RepoSibling, BlobLfsInfo).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not in an __all__
from pydantic import BaseModel, Field, ValidationError

from musicgen_cli._version import __version__
from musicgen_cli.errors import (
    BadAnswerError,
    InvalidValueError,
    ModelAbsentError,
    OutOfTimeError,
    ServiceBusyError,
    ServiceError,
    ServiceUnreachableError,
    UnknownModelError,
)

_TIMEOUT = httpx.Timeout(30, connect=10)  # s, for each read; a download as a whole has none
_PIECE = 1024 * 1024  # bytes read at once
_AGAIN = "`musicgen model pull` again goes on with the files that are whole"


class _Lfs(BaseModel):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _Sibling(BaseModel):
    rfilename: str
    size: int | None = None
    blobId: str | None = None  # noqa: N815  # the hub's word
    lfs: _Lfs | None = None


class _Answer(BaseModel):
    sha: str = Field(pattern="^[0-9a-f]{40,64}$")
    siblings: list[_Sibling]
    cardData: dict[str, Any] | None = None  # noqa: N815


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository."""

    name: str
    size: int  # bytes
    sha256: str | None  # where Git LFS keeps it
    blob: str | None  # Git's SHA-1

    def hasher(self) -> hashlib._Hash:
        """Begin the hash that the hub knows."""
        if self.sha256:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

    def is_at(self, path: Path) -> bool:
        """
        Tell whether a file here is this one, to the byte.

        Raises:
            OSError: It can't be read.
        """
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        hasher = self.hasher()
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: hasher)
        return self.fits(hasher)

    def fits(self, hasher: hashlib._Hash) -> bool:
        """Compare a hash with what the hub says."""
        return hasher.hexdigest() == (self.sha256 or self.blob)


@dataclass(frozen=True, slots=True)
class Repository:
    """One revision of a repository."""

    id: str  # OWNER/REPO
    commit: str
    license: str | None  # as its model card says
    files: Mapping[str, RemoteFile]  # those whose size and hash are told


class Hub:
    """The hub that HF_ENDPOINT names."""

    def __init__(self) -> None:
        """
        Make ready; nothing is sent yet.

        Raises:
            ModelAbsentError: The environment says that this machine is offline.
            InvalidValueError: The environment's token can't be one.
        """
        if constants.HF_HUB_OFFLINE:
            raise ModelAbsentError(
                "nothing is fetched: HF_HUB_OFFLINE is set", hint="unset it, or copy a checkpoint's folder here"
            )
        headers = build_hf_headers(library_name="musicgen-cli", library_version=__version__)
        if not "".join(headers.values()).isascii():
            raise InvalidValueError("HF_TOKEN is no token: it must be ASCII")  # never shown
        self._client = httpx.Client(
            follow_redirects=True, timeout=_TIMEOUT, headers={**headers, "accept-encoding": "identity"}
        )

    def __enter__(self) -> Hub:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        """Close the connections."""
        self._client.close()

    def repository(self, name: str, revision: str | None) -> Repository:
        """
        Look at one revision of a repository.

        Args:
            name: OWNER/REPO.
            revision: A branch, a tag or a commit; None is the main branch.

        Raises:
            UnknownModelError: The hub has no such repository or revision.
            ModelAbsentError: It isn't for everybody, or not for this token.
            ServiceUnreachableError: The hub can't be reached.
            TryAgainError: It doesn't answer in time, or is too busy.
            ServiceError: It answers with an error, or with something else than a repository's files.
        """
        url = f"{constants.ENDPOINT}/api/models/{name}"
        if revision is not None:
            url += f"/revision/{quote(revision, safe='')}"
        with _explained():
            response = self._client.get(url, params={"blobs": "true"})
            _check(response, name, revision)
        try:
            answer = _Answer.model_validate_json(response.content)
        except ValidationError as err:
            raise BadAnswerError(f"{constants.ENDPOINT} answered with something else than a repository") from err
        license_ = (answer.cardData or {}).get("license")
        return Repository(
            name,
            answer.sha,
            license_ if isinstance(license_, str) else None,
            {
                file.rfilename: RemoteFile(
                    file.rfilename, file.size, file.lfs.sha256 if file.lfs else None, file.blobId
                )
                for file in answer.siblings
                if file.size is not None and (file.lfs or file.blobId)
            },
        )

    def read(self, repository: Repository, file: RemoteFile) -> bytes:
        """
        Return a small file's bytes.

        Raises:
            BadAnswerError: They aren't what the hub said they would be.
            MusicgenError: As for `repository`.
        """
        return b"".join(self._pieces(repository, file))

    def fetch(self, repository: Repository, file: RemoteFile, target: Path, heard: Callable[[int], None]) -> None:
        """
        Fetch a file; it appears whole and checked, or not at all.

        Args:
            heard: Called with the bytes of each piece.

        Raises:
            OSError: It can't be written.
            BadAnswerError: It isn't what the hub said it would be.
            MusicgenError: As for `repository`.
        """
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as out:
                for piece in self._pieces(repository, file):
                    out.write(piece)
                    heard(len(piece))
                out.flush()
                os.fsync(out.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _pieces(self, repository: Repository, file: RemoteFile) -> Iterator[bytes]:
        """Yield a file's bytes as they come; the end is reached only if they were right."""
        url = hf_hub_url(repository.id, file.name, revision=repository.commit)
        hasher, size = file.hasher(), 0
        with _explained(), self._client.stream("GET", url) as response:
            _check(response, repository.id, repository.commit)
            for piece in response.iter_raw(_PIECE):
                size += len(piece)
                if size > file.size:
                    break
                hasher.update(piece)
                yield piece
        if size != file.size or not file.fits(hasher):
            raise BadAnswerError(
                f"{file.name} of {repository.id} came with a wrong checksum, and was thrown away", hint=_AGAIN
            )


@contextmanager
def _explained() -> Iterator[None]:
    endpoint = constants.ENDPOINT
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as err:
        raise ServiceUnreachableError(
            f"{endpoint} can't be reached: {err or type(err).__name__}",
            hint="pulling a model needs the network; HF_ENDPOINT names another hub",
        ) from err
    except httpx.InvalidURL as err:
        raise ServiceUnreachableError(f"{endpoint!r} is no address", hint="HF_ENDPOINT names the hub") from err
    except httpx.TimeoutException as err:
        raise OutOfTimeError(f"{endpoint} doesn't go on sending", hint=_AGAIN) from err
    except httpx.HTTPError as err:
        raise ServiceError(f"the connection to {endpoint} broke: {err or type(err).__name__}", hint=_AGAIN) from err


def _check(response: httpx.Response, name: str, revision: str | None) -> None:
    """Turn an answer that isn't 200 into a failure; the hub's own word for it is in a header."""
    status, word = response.status_code, response.headers.get("x-error-code")
    if status == httpx.codes.OK:
        return
    if word == "RevisionNotFound":
        raise UnknownModelError(f"{name} has no revision {revision!r}")
    if word == "RepoNotFound" or (status == httpx.codes.NOT_FOUND and word is None):
        raise UnknownModelError(
            f"{constants.ENDPOINT} has no model {name!r}", hint="if it is a private one, HF_TOKEN has to be set"
        )
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise ModelAbsentError(
            f"{name} isn't for everybody: {constants.ENDPOINT} answered {status}",
            hint=f"accept its terms at {constants.ENDPOINT}/{name}, and set HF_TOKEN to a token that may read it",
        )
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise ServiceBusyError(f"{constants.ENDPOINT} wants fewer requests", hint="try again in a few minutes")
    raise ServiceError(f"{constants.ENDPOINT} answered {status} for {name}", hint="try again later")
