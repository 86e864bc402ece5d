"""A model hub on loopback: the part of the Hugging Face Hub's protocol that downloading a model needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.http_server import LocalHTTPServer

COMMIT = "4c8334b02c6ec4e8664a91979669a501ec497792"
LFS_SUFFIXES = (".safetensors", ".bin")  # the files that Git LFS stores, whose SHA-256 the hub knows


@dataclass
class Transfer:
    """One answer to a request for a file's bytes."""

    file: str
    start: int  # the first requested byte
    sent: int = 0  # bytes of the body
    ended: bool = False


@dataclass
class Hub:
    """What is published, which faults are injected, and what was requested."""

    repositories: dict[str, Path] = field(default_factory=dict)
    status: dict[str, tuple[int, str | None]] = field(default_factory=dict)  # repository → status, X-Error-Code
    file_status: dict[str, list[int]] = field(default_factory=dict)  # file → statuses of its next answers
    cuts: dict[str, list[int]] = field(default_factory=dict)  # file → bytes after which its next answers break off
    wrong: set[str] = field(default_factory=set)  # files whose last byte is sent with one bit flipped
    without_range: bool = False  # whether Range headers are ignored
    lists_only_names: bool = False  # whether listings lack sizes and hashes, as those of mirrors do
    head: str = (
        "hub"  # how HEAD is answered: as the hub does; as a "mirror" that redirects nothing; or "no-hash", "none"
    )
    waits: dict[str, threading.Event] = field(default_factory=dict)  # file → what its second half waits for
    license: str | None = "cc-by-nc-4.0"
    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)  # method and path
    headers: list[dict[str, str]] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)

    def downloads(self) -> list[str]:
        """Return the files that were requested, in order."""
        return [transfer.file for transfer in self.transfers]

    def publish(self, name: str, folder: Path) -> None:
        """Publish a folder as a repository."""
        self.repositories[name] = folder


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
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._info("/".join(parts[2:4]), parts[5] if parts[4:5] == ["revision"] else "main", url.query)
        elif parts[2:3] == ["resolve"]:
            self._redirect("/".join(parts[:2]), parts[3], parts[4])
        elif parts[0] == "cdn":
            self._content("/".join(parts[1:3]), parts[3])
        else:
            self._answer(404, b"no such page")

    def _info(self, name: str, revision: str, query: str) -> None:
        if name in self.hub.status:
            status, code = self.hub.status[name]
            self._answer(status, b"<html>sorry</html>", **({"X-Error-Code": code} if code else {}))
        elif name not in self.hub.repositories:
            self._answer(401, b"{}", **{"X-Error-Code": "RepoNotFound"})  # as the hub answers without a token
        elif revision not in {"main", COMMIT}:
            self._answer(404, b"{}", **{"X-Error-Code": "RevisionNotFound"})
        else:
            files = [
                _sibling(path, "blobs=" in query and not self.hub.lists_only_names)
                for path in sorted(self.hub.repositories[name].iterdir())
            ]
            card = {"license": self.hub.license} if self.hub.license else {}
            answer = {"id": name, "sha": COMMIT, "siblings": files, "cardData": card}
            self._answer(200, json.dumps(answer).encode(), **{"Content-Type": "application/json"})

    def _redirect(self, name: str, revision: str, file: str) -> None:
        assert revision == COMMIT
        path = self.hub.repositories[name] / file
        if not path.is_file():
            self._answer(404, b"", **{"X-Error-Code": "EntryNotFound"})
            return
        headers = {"Location": f"/cdn/{name}/{file}", "X-Repo-Commit": COMMIT}
        if self.command == "GET":
            self._answer(302, b"", **headers)
        elif self.hub.head == "none":
            self._answer(405, b"")
        else:
            content, sibling = path.read_bytes(), _sibling(path, blobs=True)
            etag = f'"{sibling["lfs"]["sha256"] if "lfs" in sibling else sibling["blobId"]}"'
            if self.hub.head == "hub":
                linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": etag}
                self._answer(302, b"", **headers, **linked)
            else:
                self._answer(200, content, ETag=etag if self.hub.head == "mirror" else '"5d41402abc4b2a76"')

    def _content(self, name: str, file: str) -> None:
        content = (self.hub.repositories[name] / file).read_bytes()
        if self.command == "HEAD":
            self._answer(200, content, ETag='"' + "0" * 64 + '"')  # a content store's own hash, of something else
            return
        if file in self.hub.wrong:
            content = content[:-1] + bytes([content[-1] ^ 1])
        header = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(header[1]) if header and not self.hub.without_range else 0
        transfer = Transfer(file, start)
        self.hub.transfers.append(transfer)
        if statuses := self.hub.file_status.get(file):
            self._answer(statuses.pop(0), b"<html>sorry</html>")
            return
        if start >= len(content) > 0:
            self._answer(416, b"", **{"Content-Range": f"bytes */{len(content)}"})
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self._send(content, transfer)

    def _send(self, content: bytes, transfer: Transfer) -> None:
        """Send a file's bytes from the transfer's start; the faults that the test asked for happen here."""
        cuts = self.hub.cuts.get(transfer.file)
        end = min(cuts.pop(0), len(content)) if cuts else len(content)
        half = min(max(len(content) // 2, transfer.start), end)
        for first, last in ((transfer.start, half), (half, end)):
            if first == half and transfer.file in self.hub.waits:
                self.hub.waits[transfer.file].wait(30)
            try:
                self.wfile.write(content[first:last])
                self.wfile.flush()
            except OSError:  # the client has closed the connection
                break
            transfer.sent += max(last - first, 0)
        transfer.ended = True
        if transfer.start + transfer.sent < len(content):
            self.close_connection = True

    def _answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _sibling(path: Path, blobs: bool) -> dict[str, Any]:
    content = path.read_bytes()
    sibling: dict[str, Any] = {"rfilename": path.name}
    if blobs:
        sibling |= {
            "size": len(content),
            "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest(),
        }
        if path.suffix in LFS_SUFFIXES:
            digest = hashlib.sha256(content).hexdigest()
            sibling |= {"blobId": "0" * 40, "lfs": {"sha256": digest, "size": len(content), "pointerSize": 135}}
    return sibling


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
