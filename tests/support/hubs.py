"""A hub on loopback: as much of the Hugging Face Hub's protocol as fetching a model needs."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "4c8334b02c6ec4e8664a91979669a501ec497792"
BIG = (".safetensors", ".bin")  # what Git LFS keeps


@dataclass
class Hub:
    """What is published, what goes wrong, and what was asked for."""

    repositories: dict[str, Path] = field(default_factory=dict)
    status: dict[str, tuple[int, str | None]] = field(default_factory=dict)  # repository → status, X-Error-Code
    cut: dict[str, int] = field(default_factory=dict)  # file → bytes after which the connection breaks, once
    wrong: set[str] = field(default_factory=set)  # files of which one bit is wrong
    waits: dict[str, threading.Event] = field(default_factory=dict)  # file → what its second half waits for
    license: str | None = "cc-by-nc-4.0"
    log: list[tuple[str, str]] = field(default_factory=list)  # method and path
    headers: list[dict[str, str]] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """Return the files that were asked for, in order."""
        return [path.rpartition("/")[2] for _, path in self.log if path.startswith("/cdn/")]

    def publish(self, name: str, folder: Path) -> None:
        """Publish a folder."""
        self.repositories[name] = folder


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.log.append(("GET", path))
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
            status, word = self.hub.status[name]
            self._answer(status, b"<html>sorry</html>", **({"X-Error-Code": word} if word else {}))
        elif name not in self.hub.repositories:
            self._answer(401, b"{}", **{"X-Error-Code": "RepoNotFound"})  # what the hub says to a stranger
        elif revision not in {"main", COMMIT}:
            self._answer(404, b"{}", **{"X-Error-Code": "RevisionNotFound"})
        else:
            files = [_sibling(path, "blobs=" in query) for path in sorted(self.hub.repositories[name].iterdir())]
            card = {"license": self.hub.license} if self.hub.license else {}
            answer = {"id": name, "sha": COMMIT, "siblings": files, "cardData": card}
            self._answer(200, json.dumps(answer).encode(), **{"Content-Type": "application/json"})

    def _redirect(self, name: str, revision: str, file: str) -> None:
        assert revision == COMMIT
        path = self.hub.repositories[name] / file
        if not path.is_file():
            self._answer(404, b"", **{"X-Error-Code": "EntryNotFound"})
            return
        self._answer(302, b"", **{"Location": f"/cdn/{name}/{file}", "X-Repo-Commit": COMMIT})

    def _content(self, name: str, file: str) -> None:
        content = (self.hub.repositories[name] / file).read_bytes()
        if file in self.hub.wrong:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cut = self.hub.cut.pop(file, None)
        if cut is not None:
            self.wfile.write(content[:cut])
            self.close_connection = True
            return
        half = len(content) // 2
        self.wfile.write(content[:half])
        if file in self.hub.waits:
            self.wfile.flush()
            self.hub.waits[file].wait(30)
        try:
            self.wfile.write(content[half:])
        except OSError:  # who asked is gone
            self.close_connection = True

    def _answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _sibling(path: Path, blobs: bool) -> dict[str, Any]:
    content = path.read_bytes()
    sibling: dict[str, Any] = {"rfilename": path.name}
    if blobs:
        sibling |= {
            "size": len(content),
            "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest(),
        }
        if path.suffix in BIG:
            digest = hashlib.sha256(content).hexdigest()
            sibling |= {"blobId": "0" * 40, "lfs": {"sha256": digest, "size": len(content), "pointerSize": 135}}
    return sibling


def start(hub: Hub) -> tuple[str, Callable[[], None]]:
    """Start a hub; return its address and what stops it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def stop() -> None:
        for event in hub.waits.values():
            event.set()
        server.shutdown()
        server.server_close()
        thread.join()

    return f"http://127.0.0.1:{server.server_port}", stop


def until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
