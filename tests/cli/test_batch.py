from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli import limits
from musicgen_cli.engine import fleet
from musicgen_cli.store import Store
from tests.support import fakes

Run = Callable[..., Any]
Answer = Callable[[dict[str, Any]], tuple[int, bytes] | None]  # status and body; None: the connection is reset
MUSICGEN = [sys.executable, "-m", "musicgen_cli"]
pytestmark = pytest.mark.usefixtures("store_path")


@contextmanager
def served(answer: Answer, *, model: str | None = "nano", port: int = 0) -> Iterator[str]:
    """Serve `answer` to many at once, and a health check that names a model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, json.dumps({"status": "ok", "model": model}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if (said := answer(body)) is None:
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.reply(*said)

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status in {429, 503}:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass  # clients are killed here

    with Server(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def good(body: dict[str, Any]) -> tuple[int, bytes]:
    return 200, json.dumps(fakes.good_answer(body)).encode()


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with served(good) as url:
        monkeypatch.setenv("MUSICGEN_URL", url)
        yield url


@pytest.fixture
def batch(musicgen: Run, tmp_path: Path) -> Run:
    """Write lines to a file and run it, half a second each."""

    def run(lines: str | bytes, *words: object, name: str = "rows") -> Any:
        file = tmp_path / name
        file.write_bytes(lines.encode() if isinstance(lines, str) else lines)
        return musicgen("batch", file, "-d", "0.5", *words)

    return run


def takes(store_path: Path) -> list[Any]:
    return list(Store(store_path).newest(None))[::-1]


@pytest.mark.usefixtures("url")
def test_each_row_becomes_a_take(batch: Run, store_path: Path) -> None:
    """With its own values before the options, the tags of both, and its line in the JSON."""
    done = batch(
        '{"prompt": "a", "seed": 1, "tags": ["x"], "creator": "me", "duration": 0.6}\n\n{"prompt": "b"}\n',
        *("-t", "night", "-g", "5", "--json"),
    )

    assert done.code == 0, done.err
    first, second = map(json.loads, done.lines)
    assert (first["line"], first["prompt"], first["seed"], first["creator"], first["duration"]) == (
        1,
        "a",
        1,
        "me",
        0.6,
    )
    assert first["tags"][4:] == ["night", "x"]
    assert (second["line"], second["params"]["guidance_scale"], second["tags"][4:]) == (3, 5.0, ["night"])
    assert first["id"] == takes(store_path)[0].id


@pytest.mark.usefixtures("url")
def test_what_is_there_is_not_made_twice(batch: Run, store_path: Path) -> None:
    """Equal rows are as many takes as rows; a drawn seed changes nothing; `--run` and `--redo` make anew."""
    lines = "piano\npiano\ntechno\n"
    assert len(batch(lines, "-q").lines) == 3

    again = batch(lines)
    assert (again.code, again.out) == (0, "")
    assert "skipped 3 that are in the store" in again.err
    assert "--redo" in again.err
    assert "--run" in again.err
    assert len(batch(lines + "piano\n", "-q").lines) == 1
    assert len(batch(lines, "-q", "--run", "monday").lines) == 3
    assert batch(lines, "-q", "--run", "monday").lines == []
    assert len(batch(lines, "-q", "--redo").lines) == 3
    assert len({take.seed for take in takes(store_path)}) == 10
    Store(store_path).remove(["last"])
    assert batch(lines, "-q").lines == []  # the same request was made before, too


def test_another_model_makes_anew(batch: Run) -> None:
    """The service says which it has; one that doesn't say is one more."""
    for model, made in (("nano", 1), ("small", 1), (None, 1), ("nano", 0), (None, 0)):
        with served(lambda body: (200, json.dumps(_without_model(body)).encode()), model=model) as url:
            assert len(batch("x\n", "-q", "--url", url).lines) == made


def _without_model(body: dict[str, Any]) -> dict[str, Any]:
    return fakes.good_answer(body, metadata={"seed": body["seed"]})


def test_services_must_have_one_model(batch: Run) -> None:
    """At the start it is wrong usage; one that changes later makes no takes under a wrong name."""
    with served(good, model="nano") as one, served(good, model="small") as other:
        done = batch("x\n", "--url", one, "--url", other)
        assert done.code == 2
        assert "different models: nano, small" in done.err
        done = batch("x\n", "--url", other)
        assert done.code == 1
        assert "has the model 'nano' now, not 'small'" in done.err


@pytest.mark.usefixtures("url")
def test_sweeps_and_variations_multiply(batch: Run, store_path: Path) -> None:
    """Each row times each combination times each variation, seeds counting up; a row's variations are one set."""
    words = ("--sweep", "guidance_scale=3,5", "--sweep", "seed=10..11", "-n", "2", "-q")
    assert len(batch("a\nb\n", *words).lines) == 16

    made = takes(store_path)
    assert [(take.prompt, take.params["guidance_scale"], take.seed) for take in made[:5]] == [
        ("a", 3.0, 10), ("a", 3.0, 11), ("a", 3.0, 11), ("a", 3.0, 12), ("a", 5.0, 10),
    ]  # fmt: skip
    assert [take.variation_index for take in made] == [0, 1] * 8
    assert len({take.variation_set_id for take in made}) == 8
    Store(store_path).remove([made[1].id])
    (remade,) = batch("a\nb\n", *words).lines
    artifact = Store(store_path).get(remade)
    assert (artifact.variation_set_id, artifact.variation_index) == (made[0].variation_set_id, 1)


@pytest.mark.usefixtures("url")
def test_rows_may_join_sets_and_have_parents(batch: Run, store_path: Path) -> None:
    """Indices go on from those in the store."""
    (parent,) = batch("x\n", "-q").lines
    row = json.dumps({"prompt": "y", "variation_set_id": "night", "parent_id": parent[9:15]})
    assert batch(f"{row}\n{row}\n", "-q").code == 0
    assert batch(f"{row}\n{row}\n{row}\n{json.dumps({'parent_id': 'last'})}\n", "-q").code == 0

    made = takes(store_path)[1:]
    assert [take.variation_index for take in made] == [0, 1, 2, None]
    assert [take.parent_id for take in made] == [parent] * 3 + [made[1].id]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"promt": "x"}', "unknown field 'promt', the nearest known one is 'prompt'"),
        ('{"duration": 31, "top_k": 1.5}', "duration must be 0.5-30 s, got 31; top_k must be a whole number"),
        ('{"prompt": 5}', "prompt must be text, got 5"),
        ('{"prompt": "a\\u0000"}', "prompt must not hold control characters"),
        ('{"prompt": "\\ud800"}', "it is not one whole JSON object"),
        ('{"prompt": "' + 2001 * "x" + '"}', "prompt must be at most 2000 characters"),
        ('{"seed": "7"}', "seed must be a whole number"),
        ('{"seed": 9007199254740991, "variations": 2}', "seed must be 0-9007199254740991 for every variation"),
        ('{"variations": 65}', "variations must be a whole number, 1-64, got 65"),
        ('{"variations": true}', "variations must be a whole number"),
        ('{"tags": ["a,b"]}', "tag"),
        ('{"tags": 5}', "tags must be a list of texts"),
        ('{"creator": ""}', "creator must be 1-128"),
        ('{"creator": 1}', "creator must be text"),
        ('{"variation_set_id": " "}', "variation_set_id must be"),
        ('{"output": "x.opus"}', "no export to"),
        ('{"output": "x.wav", "variations": 2}', "several takes can't go into the one file"),
        ('{"output": "first.wav"}', "output 'first.wav' is that of line 1, too"),
        ('{"client_job_id": "a b"}', "client_job_id must be"),
        ('{"parent_id": "deadbeef"}', "no take matches 'deadbeef'"),
        ('{"occurrence": -1}', "occurrence must be a whole number, 0 or more"),
        ('{"prompt": "first", "occurrence": 0}', "line 1 has the same request and the same occurrence"),
        ("{", "it is not one whole JSON object"),
    ],
)
def test_wrong_rows_are_told_before_anything_is_made(
    batch: Run, service: HTTPServer, store_path: Path, row: str, message: str
) -> None:
    """Each with its line; exit 2, nothing sent or stored."""
    lines = f'{{"prompt": "first", "output": "first.wav"}}\n{row}\n\n{row}\n'
    done = batch(lines)

    assert (done.code, done.out) == (2, "")
    told = done.err.splitlines()
    assert message in told[0]
    assert told[0].startswith("error: line 2: ")
    assert told[1].startswith("error: line 4: ")
    assert told[2:] == ["error: 2 rows are wrong, nothing was made", "hint: `--skip-invalid` makes the valid ones"]
    assert service.log == []
    assert not store_path.exists()


@pytest.mark.usefixtures("url")
def test_wrong_rows_can_be_left_out(batch: Run) -> None:
    """They are told, and the others made."""
    done = batch('{"prompt": "a"}\n{"seed": -1}\n{"parent_id": "dead"}\n', "--skip-invalid", "--json")

    assert done.code == 0, done.err
    assert [json.loads(line)["line"] for line in done.lines] == [2, 3, 1]
    assert json.loads(done.lines[0])["error"]["code"] == "invalid-value"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "0"], "--jobs must be 1-256, got 0"),
        (["--retry", "-1"], "--retry must be 0-1000, got -1"),
        (["--max-failures", "0"], "--max-failures must be 1 or more"),
        (["--input-format", "xml"], "--input-format must be one of jsonl, csv, text"),
        (["--sweep", "seed"], "a sweep must be like"),
        (["--sweep", "seed=1..99999999"], "a batch has at most 10,000,000 takes"),
        (["-g", "16"], "guidance_scale must be 1-15, got 16"),
        (["--local", "--jobs", "2"], "for services"),
        (["--model", "nano"], "--model needs --local"),
        (["-t", "a,b"], "tag"),
    ],
)
def test_wrong_options_are_one_error(batch: Run, words: list[str], message: str) -> None:
    """Not one for each row."""
    done = batch("a\nb\n", *words)

    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("file", "message"),
    [("/", "is a directory"), ("/nowhere", "no such file"), (os.devnull, "there is no row"), ("a\0b", "can't read")],
)
def test_a_file_that_holds_nothing_is_wrong_usage(musicgen: Run, file: str, message: str) -> None:
    """An empty one, too: whatever should have written it failed."""
    done = musicgen("batch", file)

    assert done.code == 2
    assert message in done.err


@pytest.mark.usefixtures("url")
def test_outputs_are_exported_as_one_by_one(batch: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never over a file, and nothing is made for one that is in the way; what is missing later is exported later."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.wav").write_bytes(b"precious")
    lines = "prompt,seed,output\na,1,a.wav\nb,2,b.wav\nc,3,many/\n"

    done = batch(lines, "-q")
    assert done.code == 1
    assert "line 3: b.wav exists already" in done.err
    assert len(done.lines) == 2
    assert fakes.exported(tmp_path / "a.wav") == fakes.tone(0.5, seed=1)
    assert (tmp_path / "b.wav").read_bytes() == b"precious"

    (named,) = (tmp_path / "many").iterdir()
    for file in (named, tmp_path / "a.wav", tmp_path / "b.wav"):
        file.unlink()
    done = batch(lines, "-q")
    assert (done.code, len(done.lines)) == (0, 3), done.err
    assert named.exists()
    assert (tmp_path / "a.wav").exists()
    assert batch(lines, "-q").lines == []


def test_failed_rows_are_ready_to_run_again(batch: Run, musicgen: Run, store_path: Path, tmp_path: Path) -> None:
    """Their takes are the same that the whole file asks for; what else the file holds is refused."""
    failing = True

    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        if failing and body["prompt"] == "b":
            return 500, b'{"detail": "out of luck"}'
        return good(body)

    failed = tmp_path / "failed.jsonl"
    lines = '{"prompt": "a"}\n{"prompt": "b", "variations": 2, "tags": ["x"]}\n{"prompt": "b"}\n'
    with served(answer) as url:
        words = ("--url", url, "--failed", failed, "--sweep", "top_k=10,20")
        done = batch(lines, *words, "--json")
        assert done.code == 1
        assert "6 of 8 failed" in done.err
        assert json.loads(done.lines[-1])["error"]["message"] == "the service answered 500: out of luck"
        assert len(failed.read_text().splitlines()) == 6
        failing = False
        assert musicgen("batch", failed, "--url", url, "--failed", failed).code == 1
        done = musicgen("batch", failed, "--url", url, "-q")
        assert (done.code, len(done.lines)) == (0, 6), done.err
        assert batch(lines, *words).out == ""
        assert failed.read_text() == ""
        failed.write_text("precious\n")
        assert batch(lines, *words).code == 1
    assert failed.read_text() == "precious\n"
    made = [take for take in takes(store_path) if "x" in take.tags]
    assert sorted((take.params["top_k"], take.variation_index) for take in made) == [(10, 0), (10, 1), (20, 0), (20, 1)]
    assert len({take.variation_set_id for take in made}) == 2


def test_failures_can_end_it(batch: Run, tmp_path: Path) -> None:
    """After so many no more are begun; what failed is counted by cause."""
    with served(lambda _: (500, b"")) as url:
        done = batch("x\n" * 50, "--url", url, "--max-failures", "3", "--retry", "0")

    assert done.code == 1
    assert "made 0; failed 3 (3 service-error)" in done.err
    assert "3 of 50 failed, no more were begun" in done.err


@pytest.mark.usefixtures("url")
def test_rows_may_come_from_stdin(store_path: Path) -> None:
    """Ids alone on stdout, nothing on stderr."""
    done = subprocess.run(
        [*MUSICGEN, "batch", "-", "-q", "-d", "0.5"], input=b"a\nb\n", capture_output=True, check=True
    )

    assert done.stdout.decode().split() == [take.id for take in takes(store_path)]
    assert done.stderr == b""


def flaky(chance: random.Random) -> Answer:
    def answer(body: dict[str, Any]) -> tuple[int, bytes] | None:
        match chance.randrange(12):
            case 0:
                return 429, b""
            case 1:
                return 503, b'{"detail": "Service is busy"}'
            case 2:
                return 500, b'{"detail": "Internal server error"}'
            case 3:
                return None
            case 4:
                return 200, b"\x00\xff not json"
            case 5:
                return 200, good(body)[1].replace(b"UklGR", b"AAAAA")
        return good(body)

    return answer


def test_killed_twice_it_makes_each_take_once(tmp_path: Path, store_path: Path) -> None:
    """Two hundred rows, a service that fails in every way, SIGKILL in the middle, the same line again."""
    rows = tmp_path / "rows.csv"
    rows.write_text("prompt,seed\n" + "".join(f"prompt {i},{i}\n" for i in range(150)) + "the same,\n" * 50)
    index = store_path / "index.jsonl"
    with served(flaky(random.Random(1))) as url:
        words = [*MUSICGEN, "batch", str(rows), "-d", "0.5", "--url", url, "--jobs", "4", "--retry", "30", "-q"]
        for wanted in (60, 120):
            child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            give_up = time.monotonic() + 60
            while not index.exists() or index.read_bytes().count(b"\n") < wanted:
                assert child.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.01)
            child.kill()
            assert child.wait() == -signal.SIGKILL
        before = len(takes(store_path))
        done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    made = takes(store_path)
    assert len(done.stdout.split()) == len(made) - before
    assert len(made) == len({take.fingerprint for take in made}) == 200
    assert sorted(take.params["seed"] for take in made if take.prompt != "the same") == [*range(150)]
    assert Store(store_path).stats().bad_lines == 0


def test_one_of_two_services_may_go_and_come_back(
    batch: Run, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left out with a warning, asked again later, and makes takes again; no row is lost."""
    monkeypatch.setattr(fleet, "BACKOFF_FIRST_S", 0.1)
    monkeypatch.setattr(fleet, "BACKOFF_MOST_S", 0.2)
    monkeypatch.setattr(limits, "STARTING_S", 0.0)
    served_by: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    moved, is_back = threading.Event(), threading.Event()

    def other(body: dict[str, Any]) -> tuple[int, bytes]:
        served_by.append("other")
        if served_by.count("steady") >= 15:
            is_back.set()
        return good(body)

    def steady(body: dict[str, Any]) -> tuple[int, bytes]:
        served_by.append("steady")
        time.sleep(0.03)
        if served_by.count("steady") in {5, 15}:
            moved.set()
        if served_by.count("steady") > 15:
            is_back.wait(1)  # so that the rows last until the other one is asked again
        return good(body)

    def come_and_go() -> None:
        with served(other, port=port):
            moved.wait(20)
            moved.clear()
        moved.wait(20)
        with served(other, port=port):
            done.wait(20)

    done = threading.Event()
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        with served(steady) as url:
            ended = batch("".join(f"{i}\n" for i in range(60)), "--url", url, "--url", f"http://127.0.0.1:{port}")
    finally:
        done.set()
        moved.set()
        thread.join()

    assert ended.code == 0, ended.err
    assert len(takes(store_path)) == len({take.prompt for take in takes(store_path)}) == 60
    assert "it is left out, and asked again later" in ended.err
    assert f"http://127.0.0.1:{port} is back" in ended.err
    assert "other" in served_by[-10:]


def test_without_any_service_it_ends(batch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 4: at once if none was there, after `--max-wait` if it went."""
    monkeypatch.setattr(limits, "STARTING_S", 0.0)
    monkeypatch.setattr(fleet, "BACKOFF_FIRST_S", 0.1)
    done = batch("x\n", "--url", "http://127.0.0.1:9")
    assert (done.code, done.out) == (4, "")

    count = 0
    gone = threading.Event()

    def last_one(body: dict[str, Any]) -> tuple[int, bytes]:
        nonlocal count
        count += 1
        if count == 2:
            gone.set()
            time.sleep(0.1)
        return good(body)

    with served(last_one) as url:

        def leave() -> None:
            gone.wait(20)
            service.close()

        service = ExitStack()
        url = service.enter_context(served(last_one, port=0))
        thread = threading.Thread(target=leave)
        thread.start()
        done = batch("a\nb\nc\nd\n", "--url", url, "--max-wait", "0.3", "-q")
        thread.join()
    assert done.code == 4
    assert len(done.lines) == 2
    assert "no musicgen service could be reached for 0.3 s" in done.err


@contextmanager
def waiting_batch(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a batch whose service never answers; yield it once it has sent as many requests as it may."""
    arrived = threading.Semaphore(0)
    leave = threading.Event()

    def never(_: dict[str, Any]) -> None:
        arrived.release()
        leave.wait(30)

    with served(never) as url:
        line = [*MUSICGEN, "batch", *words, "--url", url, "--jobs", "3"]
        child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert all(arrived.acquire(timeout=20) for _ in range(3))
            yield child
        finally:
            child.kill()
            child.communicate()
            leave.set()


def test_the_same_batch_runs_once_at_a_time(batch: Run, tmp_path: Path, url: str, store_path: Path) -> None:
    """Exit 5; under another name, with other rows, or after the first has died it runs."""
    rows = "a\nb\nc\n"
    (tmp_path / "first").write_text(rows)
    with waiting_batch(str(tmp_path / "first"), "-d", "0.5"):
        done = batch(rows, "--url", url)
        assert done.code == 5
        assert done.err.startswith("error: the same batch is under way in this store")
        assert batch(rows, "--url", url, "--run", "other").code == 0
        assert batch("d\n", "--url", url).code == 0
        assert len(takes(store_path)) == 4
    assert batch(rows, "--url", url).code == 0
    assert not [*store_path.glob("batch-*")]


def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    """Exit 130 while three requests are under way."""
    (tmp_path / "rows").write_text("a\nb\nc\nd\n")
    with waiting_batch(str(tmp_path / "rows"), "-q") as child:
        started = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        assert time.monotonic() - started < 5
        assert child.stdout is not None
        assert child.stderr is not None
        assert (child.stdout.read(), child.stderr.read()) == ("", "error: interrupted\n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 400 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.usefixtures("url")
def test_a_full_disk_stops_it(batch: Run, small_disk: Path) -> None:
    """At once, not row after row; what is stored stays."""
    done = batch("".join(f"{i}\n" for i in range(100)), "--store", small_disk / "store", "-q")

    assert done.code == 1
    assert "can't write to" in done.err
    assert "failed" not in done.err
    assert 1 < len(done.lines) < 15
    assert [take.id for take in takes(small_disk / "store")] == done.lines


def test_locally_the_rows_share_one_model(batch: Run, store_path: Path) -> None:
    """The real one; over HTTP the same rows are known again."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    lines = '{"prompt": "low drone", "seed": 7}\n{"prompt": "chime"}\n'
    done = batch(lines, "--local", "--model", "nano", "--json")

    assert done.code == 0, done.err
    assert [json.loads(line)["origin"]["kind"] for line in done.lines] == ["local", "local"]
    with served(good) as url:
        assert batch(lines, "--url", url).out == ""
    assert len(takes(store_path)) == 2
