"""A model hub on loopback: the part of the Hugging Face Hub's protocol that downloading a model needs."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

from tests.support.http_server import LocalHTTPServer

COMMIT = "4c8334b02c6ec4e8664a91979669a501ec497792"
_PIECE_BYTES = 1 << 20
LFS_SUFFIXES = (".safetensors", ".bin")  # the files that Git LFS stores, whose SHA-256 the hub knows


@dataclass
class Transfer:
    """One answer to a request for a file's bytes."""

    file: str
    start: int  # the first requested byte
    sent: int = 0  # bytes of the body
    ended: bool = False


@dataclass(frozen=True)
class Revision:
    """The files of a repository at one commit."""

    folder: Path
    commit: str


@dataclass
class Hub:
    """What is published, which faults are injected, and what was requested."""

    repositories: dict[str, dict[str, Revision]] = field(default_factory=dict)  # repository → revision → files
    renamed: dict[str, str] = field(default_factory=dict)  # former name → name
    gated: set[str] = field(default_factory=set)  # repositories whose files need a token
    status: dict[str, tuple[int, str | None]] = field(default_factory=dict)  # repository → status, X-Error-Code
    file_status: dict[str, list[int]] = field(default_factory=dict)  # file → statuses of its next answers
    cuts: dict[str, list[int]] = field(default_factory=dict)  # file → bytes after which its next answers break off
    expired: dict[str, int] = field(default_factory=dict)  # file → how many of its next links have expired when used
    wrong: set[str] = field(default_factory=set)  # files whose last byte is sent with one bit flipped
    without_range: bool = False  # whether Range headers are ignored
    lists_only_names: bool = False  # whether listings lack sizes and hashes, as those of mirrors do
    lists_no_commit: bool = False  # whether listings lack the commit, too
    head: str = (
        "hub"  # how HEAD is answered: as the hub does; as a "mirror" that redirects nothing; or "no-hash", "none"
    )
    mirrored: str | None = None  # the address of the hub to which this one, a mirror, sends every request for a file
    waits: dict[str, threading.Event] = field(default_factory=dict)  # file → what its second half waits for
    license: str | None = "cc-by-nc-4.0"
    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)  # method and path
    headers: list[dict[str, str]] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    links: set[str] = field(default_factory=set)  # signatures of addresses in the content store that are valid

    def downloads(self) -> list[str]:
        """Return the files that were requested, in order."""
        return [transfer.file for transfer in self.transfers]

    def publish(self, name: str, folder: Path, *, revision: str = "main", commit: str = COMMIT) -> None:
        """Publish a folder as a repository, or as one revision of it."""
        self.repositories.setdefault(name, {})[revision] = Revision(folder, commit)

    def folder(self, name: str, commit: str = COMMIT) -> Path:
        """Return the folder of a repository at a commit, or of a branch."""
        revisions = self.repositories[name]
        return next(found.folder for branch, found in revisions.items() if commit in {branch, found.commit})


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep the server's log out of the tests' output."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.requests.append((self.command, path))
        self.hub.headers.append({name.lower(): value for name, value in self.headers.items()})
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        name = "/".join(parts[2:4]) if parts[0] == "api" else "/".join(parts[:2])
        if name in self.hub.renamed:
            self._answer(307, b"", Location=self.path.replace(name, self.hub.renamed[name]))
        elif parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._info(name, parts[5] if parts[4:5] == ["revision"] else "main", url.query)
        elif self.hub.mirrored and parts[2:3] == ["resolve"]:
            self._answer(308, b"", Location=self.hub.mirrored + self.path)
        elif parts[2:3] == ["resolve"]:
            self._redirect(name, parts[3], parts[4])
        elif parts[:3] == ["api", "resolve-cache", "models"]:
            self._small("/".join(parts[3:5]), parts[5], parts[6])
        elif parts[0] == "cdn":
            self._stored("/".join(parts[1:3]), parts[3], parts[4], url.query)
        else:
            self._answer(404, b"no such page")

    def _info(self, name: str, revision: str, query: str) -> None:
        if name in self.hub.status:
            status, code = self.hub.status[name]
            self._answer(status, b"<html>sorry</html>", **({"X-Error-Code": code} if code else {}))
            return
        if name not in self.hub.repositories:
            self._answer(401, b"{}", **{"X-Error-Code": "RepoNotFound"})  # as the hub answers without a token
            return
        revisions = self.hub.repositories[name]
        found = revisions.get(revision) or next((r for r in revisions.values() if r.commit == revision), None)
        if found is None:
            self._answer(404, b"{}", **{"X-Error-Code": "RevisionNotFound"})
            return
        with_blobs = "blobs=" in query and not self.hub.lists_only_names
        files = [
            {"rfilename": path.relative_to(found.folder).as_posix(), **(_blob(path) if with_blobs else {})}
            for path in sorted(found.folder.rglob("*"))
            if path.is_file()
        ]
        card = {"license": self.hub.license} if self.hub.license else {}
        sha = {} if self.hub.lists_no_commit else {"sha": found.commit}
        answer = {"id": name, **sha, "siblings": files, "cardData": card}
        self._answer(200, json.dumps(answer).encode(), **{"Content-Type": "application/json"})

    def _redirect(self, name: str, commit: str, file: str) -> None:
        """Lead from a file's own address to where it is: a cache for small ones, a signed link for those of Git LFS."""
        path = self.hub.folder(name, commit) / file
        if name in self.hub.gated and "Authorization" not in self.headers:
            self._answer(401, b"", **{"X-Error-Code": "GatedRepo"})
            return
        if not path.is_file():
            self._answer(404, b"", **{"X-Error-Code": "EntryNotFound"})
            return
        blob = _blob(path)
        etag = f'"{blob["lfs"]["sha256"] if "lfs" in blob else blob["blobId"]}"'
        if self.command == "HEAD" and self.hub.head == "none":
            self._answer(405, b"")
        elif self.command == "HEAD" and self.hub.head != "hub":
            length = {"Content-Length": str(blob["size"])}
            self._answer(200, b"", **length, ETag=etag if self.hub.head == "mirror" else '"5d41402abc4b2a76"')
        elif path.suffix not in LFS_SUFFIXES:
            self._answer(307, b"", Location=f"/api/resolve-cache/models/{name}/{commit}/{file}?etag={quote(etag)}")
        else:
            signature = secrets.token_hex(16)
            self.hub.links.add(signature)
            linked = {"X-Linked-Size": str(blob["size"]), "X-Linked-ETag": etag, "X-Repo-Commit": commit}
            link = f"http://localhost:{self.hub.port}/cdn/{name}/{commit}/{file}?Expires=3600&Signature={signature}"
            self._answer(302, b"", Location=link, **linked)

    def _small(self, name: str, commit: str, file: str) -> None:
        """Answer from the cache of small files."""
        path = self.hub.folder(name, commit) / file
        if self.command == "HEAD":
            blob = _blob(path)
            etag = f'"{blob["blobId"]}"' if self.hub.head == "hub" else '"5d41402abc4b2a76"'
            self._answer(200, b"", **{"Content-Length": str(blob["size"]), "ETag": etag})
        else:
            self._content(path)

    def _stored(self, name: str, commit: str, file: str, query: str) -> None:
        """Answer as a content store: for GET alone, each link once, and never to one that has expired."""
        assert "Authorization" not in self.headers, "the token was sent to another host"
        signature = query.rpartition("Signature=")[2]
        is_valid = self.command == "GET" and signature in self.hub.links
        self.hub.links.discard(signature)
        if self.hub.expired.get(file, 0) > 0:
            self.hub.expired[file] -= 1
            is_valid = False
        if is_valid:
            self._content(self.hub.folder(name, commit) / file)
        else:
            self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")

    def _content(self, path: Path) -> None:
        file, size = path.name, path.stat().st_size
        header = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if header and header[2] and not self.hub.without_range:
            self._part(path, int(header[1]), min(int(header[2]), size - 1))
            return
        start = int(header[1]) if header and not self.hub.without_range else 0
        transfer = Transfer(file, start)
        self.hub.transfers.append(transfer)
        if statuses := self.hub.file_status.get(file):
            self._answer(statuses.pop(0), b"<html>sorry</html>")
            return
        if start >= size > 0:
            self._answer(416, b"", **{"Content-Range": f"bytes */{size}"})
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        self._send(path, size, transfer)

    def _part(self, path: Path, first: int, last: int) -> None:
        """Answer a request for some bytes of a file, which isn't a transfer of it."""
        with path.open("rb") as content:
            content.seek(first)
            part = content.read(last - first + 1)
        self._answer(206, part, **{"Content-Range": f"bytes {first}-{last}/{path.stat().st_size}"})

    def _send(self, path: Path, size: int, transfer: Transfer) -> None:
        """Send a file's bytes from the transfer's start; the faults that the test asked for happen here."""
        cuts = self.hub.cuts.get(transfer.file)
        end = min(cuts.pop(0), size) if cuts else size
        half = min(max(size // 2, transfer.start), end)
        with path.open("rb") as content:
            content.seek(transfer.start)
            for last in (half, end):
                if last == end and transfer.file in self.hub.waits:
                    self.hub.waits[transfer.file].wait(30)
                while (at := transfer.start + transfer.sent) < last:
                    piece = content.read(min(last - at, _PIECE_BYTES))
                    if transfer.file in self.hub.wrong and at + len(piece) == size:
                        piece = piece[:-1] + bytes([piece[-1] ^ 1])
                    try:
                        self.wfile.write(piece)
                        self.wfile.flush()
                    except OSError:  # the client has closed the connection
                        self._end(transfer, size)
                        return
                    transfer.sent += len(piece)
        self._end(transfer, size)

    def _end(self, transfer: Transfer, size: int) -> None:
        transfer.ended = True
        if transfer.start + transfer.sent < size:
            self.close_connection = True

    def _answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _blob(path: Path) -> dict[str, Any]:
    """Return what a listing says of a file's content."""
    stat = path.stat()
    return _hashed(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _hashed(path: Path, size: int, _: int) -> dict[str, Any]:
    is_lfs = path.suffix in LFS_SUFFIXES
    hasher = hashlib.sha256() if is_lfs else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        hashlib.file_digest(file, lambda: hasher)
    digest = hasher.hexdigest()
    if not is_lfs:
        return {"size": size, "blobId": digest}
    return {"size": size, "blobId": "0" * 40, "lfs": {"sha256": digest, "size": size, "pointerSize": 135}}


@contextmanager
def running_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """
    Run an empty hub.

    Programs that are started meanwhile find it by HF_ENDPOINT. In this process huggingface_hub may have read that
    variable and that of its telemetry already, so its constants are set, too; and failed downloads are retried without
    a wait.
    """
    from huggingface_hub import constants

    from musicgen_cli.checkpoint import hub as client

    hub = Hub()
    server = LocalHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.port = server.server_port
    url = f"http://127.0.0.1:{hub.port}"
    for name in ("HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(client, "RETRY_WAITS_S", (0.0,) * len(client.RETRY_WAITS_S))
    yield hub
    for event in hub.waits.values():
        event.set()
    server.shutdown()
    server.server_close()
    thread.join()
