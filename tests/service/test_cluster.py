"""The service on Ray Serve; its answers to single requests are tested in test_app.py and test_middleware.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

pytest.importorskip("ray", reason="needs the extra cluster")
pytest.importorskip("onnxruntime", reason="needs the extra local")

import httpx  # after what may skip it

from musicgen_cli.errors import UsageError
from musicgen_cli.service.cluster import Arguments, build
from musicgen_cli.store import Store
from tests.support.rays import KEY, RayCluster

ROWS, TIMEOUT_S = 60, 100


def test_a_key_must_be_set() -> None:
    """Other machines may reach Ray Serve's proxies."""
    with pytest.raises(UsageError, match="needs an API key"):
        build(Arguments())


def test_the_key_is_required(ray_cluster: RayCluster) -> None:
    """Every request but those for the health report needs it."""
    url = ray_cluster.serve_fakes().url

    assert httpx.post(f"{url}/predict", json={}, trust_env=False).status_code == 401
    assert httpx.get(f"{url}/health", trust_env=False).status_code == 200


def test_a_client_that_disconnects_frees_its_slot(ray_cluster: RayCluster) -> None:
    """The slot is free long before the clip would have been finished."""
    service = ray_cluster.serve_nano(slots=2)
    with pytest.raises(httpx.ReadTimeout):
        service.post({"duration": 30.0}, timeout=0.5)

    wait_until(lambda: service.counts()["running"] == 0)


def test_a_full_queue_is_the_apps_own_429(ray_cluster: RayCluster) -> None:
    """Ray Serve passes on requests that the app has no room for; the answers have a Retry-After."""
    service = ray_cluster.serve_nano(slots=1, queue=1)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: service.post({"duration": 2.0, "seed": n}), range(12)))

    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 429)


def test_a_batch_survives_the_loss_of_a_replica_and_of_a_node(ray_cluster: RayCluster, tmp_path: Path) -> None:
    """One replica is killed and one node is removed while the batch runs; every row is stored once."""
    service = ray_cluster.serve_nano(replicas=2)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": "rain", "duration": 2.0, "seed": n}) + "\n" for n in range(ROWS)))
    path = tmp_path / "store"
    command = [sys.executable, "-m", "musicgen_cli", "batch", str(rows), "--url", service.url, "--jobs", "4"]
    store = Store(path)

    def stored() -> list[int | None]:
        return [take.seed for take in store.newest(None)] if path.exists() else []

    command += ["--retry", "2", "--store", str(path)]
    with subprocess.Popen(command, env=os.environ | {"MUSICGEN_API_KEY": KEY}) as running:
        wait_until(lambda: len(stored()) >= 5, TIMEOUT_S)
        ray_cluster.kill_a_replica()
        wait_until(lambda: len(stored()) >= 25, TIMEOUT_S)
        ray_cluster.lose_a_node()
        assert running.wait(TIMEOUT_S) == 0

    assert sorted(-1 if seed is None else seed for seed in stored()) == list(range(ROWS))
