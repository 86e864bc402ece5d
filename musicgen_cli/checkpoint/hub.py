"""
Downloads model files from the Hugging Face Hub; the only file that imports huggingface_hub.

From that library come the things that every program on a machine should share: the endpoint (`HF_ENDPOINT`), the token
(`HF_TOKEN`, or the one that `hf auth login` stored), the offline flag, file addresses and request headers. The transfer
itself is made here. `hf_hub_download` has not continued a partial file of an earlier process since huggingface_hub
1.18: it downloads to a temporary name of its own each time, and deletes it when it fails (`_download_to_tmp_and_move`,
github.com/huggingface/huggingface_hub/issues/4196). It also compares a file's size but not its hash.

A repository's files are listed with their hashes by `GET /api/models/{repo}?blobs=true`: the SHA-256 of files that Git
LFS stores, Git's own SHA-1 of the others. Source: huggingface_hub, hf_api.py (model_info, RepoSibling, BlobLfsInfo).
Mirrors may list nothing but names. Then a file's own address is asked by HEAD, whose answer has size and hash in the
headers. Source: huggingface_hub, file_download.py (get_hf_file_metadata).

A file's address leads elsewhere: small files by 307 to a cache of the hub's, those of Git LFS by 302 to a content
store, under an address that is signed and expires after an hour; a mirror may answer 308 with the hub's own address,
and a repository that was renamed leads to its new name. Every attempt begins at the file's own address, so that it gets
a signature that is valid; httpx sends the token to no other host.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from urllib.parse import quote, urlsplit

import httpx

from musicgen_cli import atomic, network
from musicgen_cli._version import __version__
from musicgen_cli.checkpoint.bounds import most_bytes
from musicgen_cli.checkpoint.hub_transport import BODY_BYTES, MOST_BYTES, HubTransport
from musicgen_cli.checkpoint.repository import RemoteFile, Repository, parse_listing
from musicgen_cli.errors import (
    BadAnswerError,
    InvalidValueError,
    ModelAbsentError,
    OutOfTimeError,
    ServiceBusyError,
    ServiceError,
    ServiceUnreachableError,
    TryAgainError,
    UnknownModelError,
    UsageError,
)
from musicgen_cli.text import without_user_info

try:
    _PORT = urlsplit(os.environ.get("HF_ENDPOINT", "")).port  # the library parses it when it is imported, and prints it
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not in an __all__
except ValueError as err:
    raise UsageError("HF_ENDPOINT is not an address", hint="such as https://huggingface.co") from err

RETRY_WAITS_S = (1.0, 2.0, 4.0, 8.0)  # before each new attempt; from the start again once an attempt brought bytes

_MAX_REDIRECTS = 10
_WITHOUT_HEAD = {httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_IMPLEMENTED}
_TIMEOUT = httpx.Timeout(30, connect=10)  # s, for each read; `HubTransport` has a least speed
_PROGRESS_BYTES, _MOST_POOR = 1 << 16, 50  # an attempt that brings fewer bytes is poor; so many may follow each other
_HASH = re.compile(r'(?:W/)?"?([0-9a-f]{64}|[0-9a-f]{40})"?')  # SHA-256, or Git's SHA-1, as an ETag
_CONTINUE = "`musicgen model pull` again continues the download"


class Hub:
    """The hub that HF_ENDPOINT names."""

    def __init__(self) -> None:
        """
        Prepare the connection; nothing is sent yet.

        Raises:
            ModelAbsentError: HF_HUB_OFFLINE is set.
            InvalidValueError: The token isn't ASCII.
            UsageError: The certificates that the environment names can't be used.
        """
        if constants.HF_HUB_OFFLINE:
            raise ModelAbsentError(
                "no model can be downloaded: HF_HUB_OFFLINE is set",
                hint="unset it, or copy a checkpoint's folder to this machine",
            )
        try:
            headers = build_hf_headers(library_name="musicgen-cli", library_version=__version__)
        except OSError:  # the file of a token is another user's: public models need none
            headers = build_hf_headers(library_name="musicgen-cli", library_version=__version__, token=False)
        if not "".join(headers.values()).isascii():
            raise InvalidValueError("HF_TOKEN is not a valid token: it must be ASCII")  # never shown
        self._client = httpx.Client(
            transport=HubTransport(constants.ENDPOINT),
            follow_redirects=True,
            timeout=_TIMEOUT,
            headers={**headers, "accept-encoding": "identity"},
        )

    def __enter__(self) -> Hub:
        """Return the hub itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        """Close the connections."""
        self._client.close()

    def repository(self, name: str, revision: str | None) -> Repository:
        """
        List the files of one revision of a repository.

        Args:
            name: OWNER/REPO.
            revision: A branch, a tag or a commit; None is the main branch.

        Raises:
            UnknownModelError: The hub has no such repository or revision.
            ModelAbsentError: The repository is gated or private, and the token doesn't open it.
            ServiceUnreachableError: The hub can't be reached.
            TryAgainError: It doesn't answer in time, or is too busy.
            ServiceError: It answers with an error, or with something that isn't a listing.
        """
        url = f"{constants.ENDPOINT}/api/models/{name}"
        if revision is not None:
            url += f"/revision/{quote(revision, safe='')}"
        with _translated():
            response = self._client.get(url, params={"blobs": "true"})
            _check(response, name, revision)
        if (repository := parse_listing(response.content, name, revision)) is None:
            raise BadAnswerError(f"{_endpoint()} answered with something that is not a repository")
        return repository

    def file(self, repository: Repository, name: str) -> RemoteFile:
        """
        Return one of a repository's files with its size and hash; its address is asked if the listing lacks them.

        Raises:
            BadAnswerError: The hub gives none.
            MusicgenError: As for `repository`.
        """
        if (listed := repository.files.get(name)) is not None:
            return listed
        hash_ = size = None
        # The hub's own answer comes before those that it leads to, whose ETags may be anything.
        for answer in self._heads(hf_hub_url(repository.id, name, revision=repository.commit)):
            headers = answer.headers
            hash_ = hash_ or _HASH.fullmatch(headers.get("x-linked-etag") or headers.get("etag") or "")
            length = headers.get("content-length") if answer.is_success else None
            size = size or _parse_size(headers.get("x-linked-size") or length)
            if hash_ and size is not None:
                break  # a signed address is for GET alone
            if not answer.is_redirect and answer.status_code not in _WITHOUT_HEAD:
                _check(answer, repository.id, repository.commit)
        if hash_ is None or size is None:
            raise BadAnswerError(
                f"{_endpoint()} gives no hash of {name}, so a download of {repository.id} can't be checked",
                hint="HF_ENDPOINT names another hub; a checkpoint's folder can be pulled, too",
            )
        is_sha256 = len(hash_[1]) == 64
        return RemoteFile(name, size, hash_[1] if is_sha256 else None, None if is_sha256 else hash_[1])

    def _heads(self, url: str) -> Iterator[httpx.Response]:
        """Ask an address by HEAD, and then, for as long as one goes on, each address that it leads to."""
        with _translated():
            request: httpx.Request | None = self._client.build_request("HEAD", url)
            for _ in range(_MAX_REDIRECTS):
                if request is None:
                    return
                response = self._client.send(request, follow_redirects=False)
                request = response.next_request
                yield response

    def read(self, repository: Repository, file: RemoteFile, note: Callable[[str], None]) -> bytes:
        """
        Return a small file's bytes.

        Args:
            note: Called with one line for each attempt that failed and is repeated.

        Raises:
            BadAnswerError: They don't have the hash that the hub lists, or are too many for such a file.
            MusicgenError: As for `repository`.
        """
        content = io.BytesIO()
        self._download(repository, file, content, received=lambda _: None, note=note)
        content.seek(0)
        if not file.matches(content):
            raise _wrong_checksum(repository, file)
        return content.getvalue()

    def read_start(self, repository: Repository, name: str, count: int) -> bytes:
        """
        Return the first bytes of a file, at most `count`. They aren't checked: no hash is known of a part.

        Raises:
            MusicgenError: As for `repository`.
        """
        url = hf_hub_url(repository.id, name, revision=repository.commit)
        content = bytearray()
        headers, limit = {"range": f"bytes=0-{count - 1}"}, {MOST_BYTES: most_bytes(name)}
        with _translated(), self._client.stream("GET", url, headers=headers, extensions=limit) as response:
            _check(response, repository.id, repository.commit)
            for piece in response.iter_raw():
                content += piece
                if len(content) >= count:  # the hub ignores the range
                    break
        return bytes(content[:count])

    def fetch(
        self,
        repository: Repository,
        file: RemoteFile,
        directory: Path,
        *,
        received: Callable[[int], None],
        note: Callable[[str], None],
    ) -> None:
        """
        Download a file into a folder, and check its hash.

        The bytes are appended to `file.partial(directory)`. They stay there when the download is interrupted, and the
        next call, in this process or another, requests only the rest. The file gets its name once it is complete and
        checked.

        Args:
            received: Called with the number of bytes that came since the last call, first with those of an earlier
                download; negative where the hub sends the file from its start again.
            note: Called with one line for each attempt that failed and is repeated.

        Raises:
            OSError: The file can't be written; its partial file is removed, for the disk may be full.
            BadAnswerError: It doesn't have the hash that the hub lists; its bytes are removed.
            MusicgenError: As for `repository`, once several attempts in a row brought nothing.
        """
        partial = file.partial(directory)
        try:
            with atomic.open_private(partial, "ab") as out:
                received(out.tell())
                self._download(repository, file, out, received=received, note=note)
                out.flush()
                atomic.sync(out.fileno())
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        if not file.is_at(partial):
            partial.unlink()
            raise _wrong_checksum(repository, file)
        atomic.replace(partial, directory / file.name)

    def _download(
        self,
        repository: Repository,
        file: RemoteFile,
        out: BinaryIO,
        *,
        received: Callable[[int], None],
        note: Callable[[str], None],
    ) -> None:
        """Append the missing bytes of a file, trying again after failures for as long as bytes keep coming."""
        if file.size > (most := most_bytes(file.name)):
            raise BadAnswerError(f"{file.name} of {repository.id} has {file.size} bytes, at most {most} are read")
        waits, poor = iter(RETRY_WAITS_S), 0
        while (start := out.tell()) < file.size:
            try:
                self._append(repository, file, out, received)
            except BadAnswerError:
                raise
            except (ServiceUnreachableError, TryAgainError, ServiceError) as err:
                gained = out.tell() - start
                poor = 0 if gained >= _PROGRESS_BYTES else poor + 1
                if gained >= (_PROGRESS_BYTES if isinstance(err, OutOfTimeError) else 1):
                    waits = iter(RETRY_WAITS_S)
                if (wait_s := next(waits, None)) is None or poor > _MOST_POOR:
                    raise
                note(f"{err}; trying again in {wait_s:g} s")
                time.sleep(wait_s)
            else:
                return

    def _append(self, repository: Repository, file: RemoteFile, out: BinaryIO, received: Callable[[int], None]) -> None:
        """Make one request for the bytes after those that are there, and append what comes."""
        url = hf_hub_url(repository.id, file.name, revision=repository.commit)
        start = out.tell()
        headers = {"range": f"bytes={start}-"} if start else {}
        limit = {MOST_BYTES: file.size + BODY_BYTES}  # a little more is told from the checksum
        with _translated(), self._client.stream("GET", url, headers=headers, extensions=limit) as response:
            if start and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # the hub's file is shorter than it says; the checksum will be wrong
            _check(response, repository.id, repository.commit)
            if start and response.status_code != httpx.codes.PARTIAL_CONTENT:  # the hub ignores the range
                out.seek(0)
                out.truncate()
                received(-start)
            for piece in response.iter_raw():
                out.write(piece)
                received(len(piece))
                if out.tell() > file.size:
                    return  # more than the hub said; the checksum will be wrong


def _parse_size(header: str | None) -> int | None:
    """Parse a number of bytes."""
    return int(header) if header and re.fullmatch(r"[0-9]{1,18}", header) else None


def _wrong_checksum(repository: Repository, file: RemoteFile) -> BadAnswerError:
    return BadAnswerError(
        f"{file.name} of {repository.id} has a wrong checksum and was deleted",
        hint="`musicgen model pull` downloads it again from its start",
    )


def _endpoint() -> str:
    """Return the hub's address for messages."""
    return without_user_info(constants.ENDPOINT)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn httpx's errors into ours."""
    endpoint = _endpoint()
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as err:
        raise ServiceUnreachableError(
            f"{endpoint} can't be reached: {err or type(err).__name__}",
            hint="pulling a model needs the network; HF_ENDPOINT names another hub",
        ) from err
    except (httpx.InvalidURL, UnicodeError) as err:  # the latter where a part of the host's name is too long
        raise ServiceUnreachableError(f"{endpoint!r} is not a URL", hint="HF_ENDPOINT names the hub") from err
    except httpx.TimeoutException as err:
        raise OutOfTimeError(f"{endpoint} stopped sending", hint=_CONTINUE) from err
    except httpx.HTTPError as err:
        raise ServiceError(f"the connection to {endpoint} broke: {err or type(err).__name__}", hint=_CONTINUE) from err


def _check(response: httpx.Response, name: str, revision: str | None) -> None:
    """
    Raise the error that a response's status and its header X-Error-Code mean; do nothing if it has content.

    Raises:
        MusicgenError: As for `Hub.repository`.
    """
    status, code = response.status_code, response.headers.get("x-error-code")
    if status in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
        return
    is_elsewhere = response.history and response.url.netloc != response.history[0].url.netloc
    if is_elsewhere and code is None and response.is_client_error and status != httpx.codes.TOO_MANY_REQUESTS:
        # Not the hub's word on the file, but that of a content store on a signed address.
        raise ServiceError(f"a download link of {name} doesn't work any more (status {status})", hint=_CONTINUE)
    if code == "RevisionNotFound":
        raise UnknownModelError(f"{name} has no revision {revision!r}")
    if code == "RepoNotFound" or (status == httpx.codes.NOT_FOUND and code is None):
        raise UnknownModelError(
            f"{_endpoint()} has no model {name!r}", hint="check the name; a private model needs HF_TOKEN"
        )
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        kind = "gated" if code == "GatedRepo" else "not public"
        raise ModelAbsentError(
            f"{name} is {kind}: {_endpoint()} answered {status}",
            hint=f"accept its terms at {_endpoint()}/{name}, and set HF_TOKEN to a token that may read it",
        )
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise ServiceBusyError(f"{_endpoint()} received too many requests", hint="try again in a few minutes")
    who, hint = _endpoint(), "try again later"
    proxy = network.proxy_for(response.request.url)
    if proxy is not None and proxy.answers_for(response.request.url) and code is None:
        who, hint = f"{who}, or {proxy} before it,", proxy.hint(response.request.url.host)
    raise ServiceError(f"{who} answered {status} for {name}", hint=hint)
