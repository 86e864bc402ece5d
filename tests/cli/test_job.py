from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from musicgen_cli import settings
from tests.support import fakes
from tests.support.command_line import Run
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.usefixtures("service", "store_path")

WAIT_S = 90  # for what takes seconds on an idle machine


def test_detach_prints_a_job_that_becomes_a_take(musicgen: Run) -> None:
    """Only the id is printed, and the result of the job names the take."""
    done = musicgen("generate", "calm [b]piano[/b]", "-d", "0.5", "--seed", "7", "-t", "a", "--detach")
    id_ = done.out.rstrip("\n")
    assert (done.code, done.err) == (0, "")
    assert uuid.UUID(id_).version == 4

    polled = musicgen("job", "poll", id_, "--timeout-ms", "30000")
    assert polled.code == 0, polled.err
    result = json.loads(polled.out)
    assert (result["completed"], result["failed"], result["pending"], result["reason"]) == (
        [id_],
        [],
        [],
        "job_complete",
    )
    take = json.loads(musicgen("show", "last", "--json").out)
    assert result["results"][id_] == {
        name: take[name] for name in ("status", "output_hash", "artifact_id", "duration", "sample_rate")
    }
    assert (take["seed"], take["client_job_id"], "a" in take["tags"]) == (7, id_, True)
    (line,) = musicgen("job", "list").lines
    assert re.fullmatch(rf"{id_}\tcomplete\t[^\t]+Z\t\t{take['id']}\tcalm \[b]piano\[/b]", line)
    assert json.loads(musicgen("job", "show", "last", "--json").out)["result"]["artifact_id"] == take["id"]
    assert musicgen("job", "list", "-q").lines == [id_]
    assert musicgen("job", "poll", id_, "-q").lines == [id_]
    code, shown = on_terminal("-m", "musicgen_cli", "job", "show", id_[:8])
    assert code == 0
    assert re.search(rf"result\.artifact_id:\s+{take['id']}", shown)
    code, shown = on_terminal("-m", "musicgen_cli", "job", "list")
    assert "calm [b]piano[/b]" in shown


def test_each_variation_is_a_job_of_its_own(musicgen: Run) -> None:
    """Their ids come one a line, or with `--json` as one object each."""
    assert len(musicgen("generate", "-d", "0.5", "-n", "3", "--detach", "-q").lines) == 3
    job = json.loads(musicgen("generate", "-d", "0.5", "--detach", "--json").out)

    assert job["status"] == "pending"
    done = musicgen("job", "poll", "--mode", "all", "--timeout-ms", "30000", "-q")
    assert len(done.lines) == 4
    assert done.code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-d", "601"], 2, "duration must be 0.5-600 s, got 601"),
        (["-t", "a,b"], 2, "tag"),
        (["--parent", "abcd"], 3, "abcd"),
        (["--url", "nonsense"], 2, "http://"),
        (["--url", "http://me:s3cret@localhost"], 2, "password"),
        (["-o", "x.wav"], 2, "--detach and --output"),
        (["--local", "--engine", "loom"], 2, "engine must be one of onnx, native, torch"),
        (["--local", "--model", "nonsense"], 3, "nonsense"),
    ],
)
def test_wrong_usage_queues_no_job(musicgen: Run, words: list[str], code: int, message: str) -> None:
    """Options are checked as without `--detach`, and nothing is written."""
    done = musicgen("generate", "x", "--detach", *words)

    assert done.code == code
    assert message in done.err
    assert "s3cret" not in done.err
    assert done.out == ""
    assert not settings.state_dir().exists()


def test_exit_codes_of_job_poll_and_others(musicgen: Run, service: HTTPServer) -> None:
    """1: a job failed; 5: the time-out was reached; 3: there is no such job; 2: a value is out of range."""
    service.clear()
    service.expect_request("/predict").respond_with_json({"detail": "no \x1b[2Jroom"}, 500)
    id_ = musicgen("generate", "-d", "0.5", "--detach").out.strip()
    done = musicgen("job", "poll", id_, "--timeout-ms", "0")
    assert done.code == 5
    assert json.loads(done.out)["reason"] == "timeout"
    assert done.err.startswith("error: 1 job is not done yet\n")

    done = musicgen("job", "poll", id_, "--timeout-ms", "30000", "--json")
    assert done.code == 1
    assert json.loads(done.out)["failed"] == [id_]
    assert "no [2Jroom" in json.loads(done.err)["error"]["message"].replace("\x1b", "")
    assert musicgen("job", "poll", "nonsense").code == 1
    assert musicgen("job", "poll").code == 0
    assert musicgen("job", "show", "nonsense").code == musicgen("job", "cancel", "nonsense").code == 3
    assert musicgen("job", "poll", "--timeout-ms", "30001").code == 2
    assert musicgen("job", "poll", "--mode", "some").code == 2
    done = musicgen("job", "cancel", id_)
    assert done.code == 0
    assert f"{id_} has ended already: failed" in done.err


def test_wait_has_no_bound_and_prints_the_takes(musicgen: Run, service: HTTPServer) -> None:
    """Without ids it waits for all jobs that haven't ended; the takes come as `generate` prints them."""
    service.clear()

    def slow(request: Request) -> Response:
        time.sleep(1)
        return fakes.ours(request)

    service.expect_request("/predict", method="POST").respond_with_handler(slow)
    ids = musicgen("generate", "x", "-d", "0.5", "-n", "2", "--detach").lines
    done = musicgen("job", "wait", "-q")

    assert (done.code, done.err) == (0, "")
    assert done.lines == musicgen("list", "-q").lines[::-1]
    again = musicgen("job", "wait", ids[1], "--json")
    assert [json.loads(line)["client_job_id"] for line in again.lines] == [ids[1]]
    assert musicgen("job", "wait").err == "no job is pending\n"
    musicgen("rm", "last", "--yes")
    removed = musicgen("job", "wait", *ids, "-q")
    assert (removed.code, removed.lines) == (0, done.lines[:1])
    assert removed.err == f"warning: {done.lines[1]} was removed: `musicgen undo {done.lines[1]}` restores it\n"
    assert musicgen("job", "show", "-q").lines == [ids[1]]


def test_what_is_wrong_with_a_take_is_said_wherever_its_job_is_shown(musicgen: Run, service: HTTPServer) -> None:
    """Nobody sees what the runner prints: on stderr, or in the object where there is one."""
    service.clear()
    service.expect_request("/predict", method="POST").respond_with_handler(fakes.shorter)
    (id_,) = musicgen("generate", "x", "-d", "2", "--detach").lines
    said = "requested 2 s, got 0.5 s"
    for words in (["wait", id_], ["wait", id_, "-q"], ["poll", id_, "-q"], ["show"], ["show", id_, "-q"]):
        assert musicgen("job", *words).err == f"warning: {said}\n"
    assert json.loads(musicgen("job", "wait", id_, "--json").err) == {"warning": {"message": said}}
    assert json.loads(musicgen("job", "poll", id_).out)["results"][id_]["warnings"] == [said]
    for words in (["show"], ["list"]):
        assert json.loads(musicgen("job", *words, "--json").out)["result"]["warnings"] == [said]
    _, shown = on_terminal("-m", "musicgen_cli", "job", "show")
    assert re.search(rf"result\.warnings:\s+{said}", shown)


def test_wait_is_exit_1_if_a_job_failed(musicgen: Run, service: HTTPServer) -> None:
    """What was made beside it is printed; an unknown job has failed, too."""
    service.clear()
    service.expect_ordered_request("/predict").respond_with_handler(fakes.ours)
    service.expect_ordered_request("/predict").respond_with_json({"detail": "no room"}, 500)
    ids = musicgen("generate", "x", "-d", "0.5", "-n", "2", "--detach").lines
    done = musicgen("job", "wait", *ids, "-q")

    assert (done.code, len(done.lines)) == (1, 1)
    assert done.err == f"error: job {ids[1]} failed: the service answered 500: no room\n"
    assert musicgen("job", "wait", "nonsense").code == 1


def test_an_empty_job_list_says_so_and_writes_nothing(musicgen: Run, store_path: Path) -> None:
    """Listing creates no folder."""
    store_path.mkdir()
    done = musicgen("job", "list")

    assert (done.code, done.out) == (0, "")
    assert done.err == "no jobs in the last 7 days: `musicgen generate --detach` queues one\n"
    assert musicgen("job", "list", "-q").err == ""
    assert musicgen("job", "show").err.startswith("error: there is no last job\n")
    assert not settings.state_dir().exists()
    assert list(store_path.iterdir()) == []


def test_local_takes_can_be_made_in_the_background(musicgen: Run) -> None:
    """The runner loads the model once for all jobs and records their steps."""
    ids = [musicgen("generate", "x", "-d", "1", "--seed", "3", "--local", "--model", "nano", "--detach").out.strip()]
    ids += musicgen("generate", "x", "-d", "1", "--local", "--model", "nano", "--detach", "-n", "3").lines
    give_up = time.monotonic() + WAIT_S
    while (done := musicgen("job", "poll", *ids, "--mode", "all", "--timeout-ms", "30000")).code == 5:
        assert time.monotonic() < give_up

    assert done.code == 0, done.err
    shown = [json.loads(musicgen("job", "show", id_, "--json").out) for id_ in ids]
    assert all(job["steps"] == job["total"] > 50 for job in shown)
    (log,) = settings.state_dir().glob("jobs/*/runner.log")
    assert log.read_text().count("preparing") <= 1
    direct = musicgen("generate", "x", "-d", "1", "--seed", "3", "--local", "--model", "nano", "--json")
    assert json.loads(direct.out)["output_hash"] == shown[0]["result"]["output_hash"]


def test_cancel_stops_a_running_local_take(musicgen: Run) -> None:
    """Nothing of it is stored, and the same runner makes the next take."""
    words = ["--local", "--model", "nano", "--greedy", "--detach"]
    long, short = (musicgen("generate", "-d", duration, *words).out.strip() for duration in ("30", "0.5"))
    give_up = time.monotonic() + WAIT_S
    while (job := json.loads(musicgen("job", "show", long, "--json").out))["state"] == "pending" or not job["steps"]:
        assert job["state"] != "complete"
        assert time.monotonic() < give_up
    done = musicgen("job", "cancel", long)
    assert done.code == 0
    assert done.out.split("\t")[1] == "cancelled"

    assert musicgen("job", "poll", short, "--timeout-ms", "30000").code == 0
    assert len(musicgen("list", "-q").lines) == 1
    stopped = json.loads(musicgen("job", "show", long, "--json").out)
    assert 0 < stopped["steps"] < stopped["total"]
    assert musicgen("job", "poll", long).code == 1
