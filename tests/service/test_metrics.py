"""The metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.waiting import wait_until

pytest.importorskip("prometheus_client", reason="needs the extra serve")

from prometheus_client.parser import text_string_to_metric_families

from tests.support.fake_engine import FakeEngine
from tests.support.services import FakeService, ServiceClient, StartService


def values(service: ServiceClient, **headers: str) -> dict[str, float]:
    """Return each sample's value by its name and labels."""
    answer = service.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(answer.text)
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_by_status(start: StartService, engine: FakeEngine) -> None:
    """Answers, refusals, failures and disconnected clients; other paths than /predict are not counted."""
    service = start(engine, limit=0)
    service.post({"duration": 0.75})
    service.post({"duration": "x"})
    engine.failure = RuntimeError()
    service.post()
    engine.failure = None
    engine.hold()
    with service.send_request():
        wait_until(lambda: service.counts()["running"])
        assert service.post().status_code == 429
    wait_until(lambda: not service.counts()["running"])
    engine.release()
    service.get("/predict/other")

    metrics = wait_until(lambda: now if (now := values(service)).get("musicgen_requests_total 499") else {})

    by_status = {name: value for name, value in metrics.items() if name.startswith("musicgen_requests_total")}
    assert by_status == {f"musicgen_requests_total {status}": 1 for status in (200, 422, 429, 499, 500)}
    assert metrics["musicgen_sound_seconds_total"] == 0.75
    assert metrics["musicgen_answer_seconds_count"] == 1
    assert metrics["musicgen_wait_seconds_count"] == 3
    assert metrics["musicgen_steps_total"] == 8 + 8 + 1


def test_the_present_numbers_of_the_queue_are_reported(start: StartService, engine: FakeEngine) -> None:
    """Waiting requests, running requests and slots, and the steps of clips that are not finished."""
    engine.slots = 2
    service = start(engine)
    engine.hold()
    later = [service.later() for _ in range(3)]
    wait_until(lambda: service.counts()["waiting"])

    metrics = wait_until(lambda: now if (now := values(service))["musicgen_steps_total"] == 2 else {})

    assert (metrics["musicgen_slots"], metrics["musicgen_running"], metrics["musicgen_waiting"]) == (2, 2, 1)
    engine.release()
    assert {answer.result().status_code for answer in later} == {200}
    assert values(service)["musicgen_steps_total"] == 24


def test_memory_is_reported(shared: ServiceClient) -> None:
    """The resident memory is there where the system reports it."""
    assert values(shared).get("process_resident_memory_bytes", 1e8) > 1e6


def test_metrics_need_the_key(start_shared: Callable[..., FakeService]) -> None:
    """They show more than the health report."""
    service = start_shared(api_keys=["k"])

    assert service.get("/metrics").status_code == 401
    assert values(service, Authorization="Bearer k")


def test_two_apps_count_separately(start: StartService) -> None:
    """Each app has its own counters."""
    one, other = start(), start()
    one.post()

    assert values(one)["musicgen_requests_total 200"] == 1
    assert "musicgen_requests_total 200" not in values(other)
