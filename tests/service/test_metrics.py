"""What Prometheus is told."""

import pytest

pytest.importorskip("prometheus_client", reason="needs the extra serve")

from prometheus_client.parser import text_string_to_metric_families


def values(service, **headers):
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


def test_requests_are_counted_by_what_became_of_them(start, engine, until):
    """Answers, refusals, failures and those who went; what isn't /predict isn't counted."""
    service = start(engine, limit=0)
    service.post({"duration": 0.75})
    service.post({"duration": "x"})
    engine.failure = RuntimeError()
    service.post()
    engine.failure = None
    engine.go.clear()
    with service.ask():
        until(lambda: service.counts()["running"])
        assert service.post().status_code == 429
    until(lambda: not service.counts()["running"])
    engine.go.set()
    service.get("/predict/other")

    found = until(lambda: (now := values(service)).get("musicgen_requests_total 499") and now)

    by_status = {name: value for name, value in found.items() if name.startswith("musicgen_requests_total")}
    assert by_status == {f"musicgen_requests_total {status}": 1 for status in (200, 422, 429, 499, 500)}
    assert found["musicgen_sound_seconds_total"] == 0.75
    assert found["musicgen_answer_seconds_count"] == 1
    assert found["musicgen_wait_seconds_count"] == 3
    assert found["musicgen_steps_total"] == 8 + 8 + 1


def test_what_is_under_way_is_told_as_it_is(start, engine, until):
    """Waiting, running and slots, and steps before a clip is done."""
    engine.slots = 2
    service = start(engine)
    engine.go.clear()
    later = [service.later() for _ in range(3)]
    until(lambda: service.counts()["waiting"])

    found = until(lambda: (now := values(service))["musicgen_steps_total"] == 2 and now)

    assert (found["musicgen_slots"], found["musicgen_running"], found["musicgen_waiting"]) == (2, 2, 1)
    engine.go.set()
    assert {answer.result().status_code for answer in later} == {200}
    assert values(service)["musicgen_steps_total"] == 24


def test_memory_is_told(shared):
    """Where the system tells it."""
    assert values(shared).get("process_resident_memory_bytes", 1e8) > 1e6


def test_metrics_want_the_key(shared_with):
    """They tell more than health does."""
    service = shared_with(api_key="k")

    assert service.get("/metrics").status_code == 401
    assert values(service, Authorization="Bearer k")


def test_two_apps_count_apart(start):
    """An app has counts of its own."""
    one, other = start(), start()
    one.post()

    assert values(one)["musicgen_requests_total 200"] == 1
    assert "musicgen_requests_total 200" not in values(other)
