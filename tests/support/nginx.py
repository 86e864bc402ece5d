"""A real nginx on a free port of loopback, as a reverse proxy before a service."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{target};
            proxy_http_version 1.1;
            proxy_next_upstream off;
            proxy_buffers 16 256k;
        }}
    }}
}}
"""


@contextmanager
def nginx_before(target: str, folder: Path) -> Iterator[str]:
    """
    Run nginx before a service.

    Args:
        target: The service's HOST:PORT.
        folder: For the files of nginx.

    Yields:
        The address of nginx.
    """
    assert PROGRAM is not None
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        user = "user root;" if os.geteuid() == 0 else ""  # so that its worker may use the folder
        (folder / "nginx.conf").write_text(_CONFIG.format(folder=folder, port=port, target=target, user=user))
        nginx = subprocess.Popen(
            [PROGRAM, "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},  # how nginx inherits an open port
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        )
    try:
        wait_until((folder / "pid").exists)
        yield f"http://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        nginx.wait(60)
