"""A real nginx on a free port of loopback, as a reverse proxy before a service."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

PROGRAM = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="needs nginx")

_CONFIG = """
daemon off;
pid {folder}/pid;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {address};
        location / {{
            proxy_pass http://{target};
            proxy_http_version 1.1;
            proxy_next_upstream off;
            proxy_buffers 16 256k;
            proxy_connect_timeout {patience_s}s;
            proxy_read_timeout {patience_s}s;
        }}
    }}
}}
"""


@contextmanager
def nginx_before(target: str, folder: Path, *, patience_s: int = 60, address: str | None = None) -> Iterator[str]:
    """
    Run nginx before a service.

    Args:
        target: The service's HOST:PORT.
        folder: For the files of nginx.
        patience_s: How long nginx waits for a connection, and for bytes, before it answers with 504.
        address: Its own HOST:PORT, which must be free; None: a free port of 127.0.0.1.

    Yields:
        The address of nginx.
    """
    assert PROGRAM is not None
    folder.mkdir()
    with ExitStack() as stack:
        inherited: list[int] = []
        if address is None:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            inherited.append(listener.fileno())
        user = "user root;" if os.geteuid() == 0 else ""  # so that its worker may use the folder
        config = _CONFIG.format(folder=folder, address=address, target=target, user=user, patience_s=patience_s)
        (folder / "nginx.conf").write_text(config)
        nginx = subprocess.Popen(
            [PROGRAM, "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"],
            env={**os.environ, "NGINX": "".join(f"{fd};" for fd in inherited)},  # how nginx inherits an open port
            pass_fds=inherited,
            stderr=subprocess.DEVNULL,
        )
    try:
        wait_until((folder / "pid").exists)
        yield f"http://{address}"
    finally:
        nginx.terminate()
        nginx.wait(60)
