"""The service's metrics, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from musicgen_cli.service.admission import AdmissionQueue
from musicgen_cli.service.job import Job

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)


class Metrics:
    """The metrics of one app; on Linux also of its process, such as `process_resident_memory_bytes`."""

    def __init__(self, queue: AdmissionQueue) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_QueueCollector(queue))
        self._requests = Counter(
            "musicgen_requests",
            "Requests to /predict by status; 499: the client disconnected.",
            ["status"],
            registry=registry,
        )
        self._sound = Counter("musicgen_sound_seconds", "Seconds of sound in answers.", registry=registry)
        self._wait = Histogram(
            "musicgen_wait_seconds", "From a request's arrival to its start.", buckets=_BUCKETS_S, registry=registry
        )
        self._answer = Histogram(
            "musicgen_answer_seconds", "From a request's head to its 200.", buckets=_BUCKETS_S, registry=registry
        )

    def record(self, path: str, status: int, seconds: float, job: Job | None) -> None:
        """Count a request that was answered with `status` after `seconds`; only `/predict` is counted."""
        if path != "/predict":
            return
        self._requests.labels(str(status)).inc()
        if job is not None and job.started is not None:
            self._wait.observe(job.started - job.arrived)
            if status == 200:
                self._answer.observe(seconds)
                self._sound.inc(job.request.duration)

    def text(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self._registry)


class _QueueCollector(Collector):
    """Reads the queue's present numbers whenever metrics are requested."""

    def __init__(self, queue: AdmissionQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        """Yield the present values."""
        counts = self._queue.counts()
        yield CounterMetricFamily("musicgen_steps", "Decoder steps, of cancelled clips too.", self._queue.steps)
        yield GaugeMetricFamily("musicgen_waiting", "Requests that wait.", counts["waiting"])
        yield GaugeMetricFamily("musicgen_running", "Requests whose clip is being generated.", counts["running"])
        yield GaugeMetricFamily(
            "musicgen_sound_bytes", "Bytes of sounds that requests are made from.", self._queue.sounds.bytes
        )
        yield GaugeMetricFamily("musicgen_slots", "Clips that can be generated at the same time.", self._queue.slots)
