"""The service on Ray Serve; what any server must answer is in test_app.py and test_middleware.py, for this one too."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("ray", reason="needs the extra cluster")
pytest.importorskip("onnxruntime", reason="needs the extra local")

import httpx  # after what may skip it

from musicgen_cli.errors import UsageError
from musicgen_cli.service.cluster import Arguments, build
from musicgen_cli.store import Store
from tests.support.rays import KEY

ROWS, PATIENCE_S = 60, 100


def test_a_key_is_needed():
    """Whoever reaches a proxy of Serve reaches us."""
    with pytest.raises(UsageError, match="needs an API key"):
        build(Arguments())


def test_the_key_is_asked_for(ray_cluster):
    """Of all but those who ask how it is."""
    url = ray_cluster.serve_fakes().url

    assert httpx.post(f"{url}/predict", json={}, trust_env=False).status_code == 401
    assert httpx.get(f"{url}/health", trust_env=False).status_code == 200


def test_a_client_that_goes_frees_its_slot(ray_cluster, until):
    """Long before its clip would have been made."""
    service = ray_cluster.serve_nano(slots=2)
    with pytest.raises(httpx.ReadTimeout):
        service.post({"duration": 30.0}, timeout=0.5)

    until(lambda: service.counts()["running"] == 0)


def test_a_full_queue_is_the_apps_own_429(ray_cluster):
    """Serve lets through what the app has no room for; the answer says when to come again."""
    service = ray_cluster.serve_nano(slots=1, queue=1)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: service.post({"duration": 2.0, "seed": n}), range(12)))

    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 429)


def test_a_batch_outlives_a_replica_and_a_node(ray_cluster, tmp_path, until):
    """One replica is killed and one node goes while it runs; every row is stored once."""
    service = ray_cluster.serve_nano(replicas=2)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": "rain", "duration": 2.0, "seed": n}) + "\n" for n in range(ROWS)))
    path = tmp_path / "store"
    command = [sys.executable, "-m", "musicgen_cli", "batch", str(rows), "--url", service.url, "--jobs", "4"]
    store = Store(path)

    def stored():
        return [take.seed for take in store.newest(None)] if path.exists() else []

    command += ["--retry", "2", "--store", str(path)]
    with subprocess.Popen(command, env=os.environ | {"MUSICGEN_API_KEY": KEY}) as running:
        until(lambda: len(stored()) >= 5, PATIENCE_S)
        ray_cluster.kill_a_replica()
        until(lambda: len(stored()) >= 25, PATIENCE_S)
        ray_cluster.lose_a_node()
        assert running.wait(PATIENCE_S) == 0

    assert sorted(stored()) == list(range(ROWS))
