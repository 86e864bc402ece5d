from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from musicgen_cli import generate
from musicgen_cli.errors import NO_SERVICE_HINT, ServiceUnreachableError
from tests.support import fakes
from tests.support.command_line import MUSICGEN, Run
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.usefixtures("service", "store_path")


def test_a_prompt_becomes_a_stored_take(musicgen: Run, store_path: Path) -> None:
    """One line says what was made, and the name of the blob is the hash of its bytes."""
    done = musicgen("generate", "calm ambient piano", "-d", "1", "--seed", "7")

    assert done.code == 0, done.err
    id_, created, duration, seed, model, tags, prompt = done.out.rstrip("\n").split("\t")
    assert (duration, seed, model, prompt) == ("1", "7", "nano", "calm ambient piano")
    assert tags == "type:audio,format:wav,phase:generation,tool:musicgen_generate"
    assert created.endswith("Z")
    (blob,) = store_path.glob("blobs/*/*.wav")
    digest = hashlib.sha256(blob.read_bytes()).hexdigest()
    assert blob.name == f"{digest}.wav"
    assert id_ == f"artifact_{digest[:12]}"


def test_the_record_holds_everything_that_made_the_take(musicgen: Run) -> None:
    """It has prompt, parameters, both lengths, seed, origin, licence, lineage, creator and tags."""
    parent = musicgen("generate", "first", "-d", "0.5", "-q").out.strip()
    done = musicgen(
        "generate", "energetic techno beat with synthesizers", "-d", "0.75", "-g", "5", "--temperature", "0.8",
        "--top-k", "50", "--top-p", "0.5", "--greedy", "--seed", "3", "-t", "game:forest", "-t", "format:wav",
        "--creator", "me", "--parent", parent[9:15], "--variation-set", "night", "--json",
    )  # fmt: skip

    record = json.loads(done.out)
    expected = {
        "status": "success", "prompt": "energetic techno beat with synthesizers", "creator": "me", "seed": 3,
        "params": {"duration": 0.75, "temperature": 0.8, "top_k": 50, "top_p": 0.5, "guidance_scale": 5.0,
                   "do_sample": False, "seed": 3},
        "tags": ["type:audio", "format:wav", "phase:generation", "tool:musicgen_generate", "game:forest"],
        "requested_duration": 0.75, "duration": 0.75, "frames": 24_000, "sample_rate": 32_000, "channels": 1,
        "parent_id": parent, "variation_set_id": "night", "variation_index": 0, "license": "MIT",
        "extra": {"checkpoint": "abc", "sampler": 1}, "mime": "audio/wav",
    }  # fmt: skip
    assert expected.items() <= record.items()
    assert record["artifact_id"] == record["id"]
    assert record["output_hash"] == record["content_hash"]
    origin = record["origin"]
    assert (origin["kind"], origin["model"], origin["engine"], origin["precision"], origin["device"]) == (
        "http", "nano", "onnx", "fp32", "cpu",
    )  # fmt: skip
    assert origin["version"]
    assert origin["url"].startswith("http://")
    assert record["client_job_id"]
    assert record["elapsed_s"] >= 0


def test_without_a_prompt_it_is_unconditional(musicgen: Run, service: HTTPServer) -> None:
    """The prompt that is sent is "", never null."""
    assert musicgen("generate", "-d", "0.5").code == 0
    assert json.loads(service.log[0][0].data)["prompt"] == ""


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf\r\n", b" "])
def test_an_empty_standard_input_is_no_prompt(
    musicgen: Run, service: HTTPServer, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """It means that the program before the pipe failed; a take without a prompt is asked for without `-`."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    done = musicgen("generate", "-")

    assert (done.code, done.err.splitlines()[0]) == (2, "error: there is no prompt on standard input")
    assert service.log == []


def test_a_byte_order_mark_is_not_part_of_the_prompt(musicgen: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs on Windows begin a text with one."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfpiano\r\n")))

    assert json.loads(musicgen("generate", "-", "-d", "0.5", "--json").out)["prompt"] == "piano"


@pytest.mark.usefixtures("store_path")
@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["caf\udce9"], "prompt"),
        (["x", "--tag", "caf\udce9"], "tag 'caf\\udce9'"),
        (["x", "--creator", "caf\udce9"], "creator"),
        (["x", "--variation-set", "caf\udce9"], "variation_set"),
    ],
)
def test_text_in_another_encoding_is_called_that(
    musicgen: Run, service: HTTPServer, words: list[str], name: str
) -> None:
    """The message names the byte, and no character that the user never typed."""
    done = musicgen("generate", *words)

    assert (done.code, done.err) == (2, f"error: {name} is not UTF-8 (byte 0xe9)\n")
    assert service.log == []


def test_the_prompt_may_come_from_stdin(musicgen: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads it; line ends at its end are removed."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("sanfte Flöte\r\nund Harfe\r\n".encode())))

    assert json.loads(musicgen("generate", "-", "-d", "0.5", "--json").out)["prompt"] == "sanfte Flöte\nund Harfe"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-d", "601"], "duration must be 0.5-600 s, got 601"),
        (["-d", "nan"], "duration must be 0.5-600 s, got nan"),
        (["-d", "inf"], "duration must be 0.5-600 s, got inf"),
        (["--temperature", "0"], "temperature must be 0.01-2, got 0"),
        (["--top-k", "-1"], "top_k must be a whole number, 0-1000, got -1"),
        (["--top-p", "1.1"], "top_p must be 0-1, got 1.1"),
        (["-g", "16"], "guidance_scale must be 1-15, got 16"),
        (["--seed", "-1"], "seed must be a whole number, 0-9007199254740991, got -1"),
        (["--seed", str(2**53 - 1), "-n", "2"], "with 2 variations"),
        (["-n", "0"], "variations must be a whole number, 1-64, got 0"),
        (["-n", "65"], "variations must be a whole number, 1-64, got 65"),
        (["-t", "a,b"], "tag"),
        (["-t", ""], "tag"),
        (["--creator", ""], "creator"),
        (["--variation-set", " x"], "variation_set"),
        (["x" * 2001], "prompt must be at most 2000 characters, got 2001"),
        (["x" * 100_000], "prompt must be at most 2000 characters, got 100000"),
        (["a\x1b[2J"], "control characters"),
        (["a\udcff"], "prompt is not UTF-8 (byte 0xff)"),
        (["--model", "nano"], "--model needs --local"),
        (["--engine", "onnx"], "--engine needs --local"),
        (["--device", "cpu"], "--device needs --local"),
        (["--precision", "fp32"], "--precision needs --local"),
        (["--timeout", "0"], "timeout must be more than 0 seconds"),
        (["--url", "nonsense"], "http://"),
        (["-n", "2", "-o", "-"], "can write only one take"),
        (["--json", "-o", "-"], "where --json writes other data"),
        (["-n", "2", "-o", "x.wav"], "one file"),
        (["-o", "x.opus"], "no export to"),
        (["--duration", "long"], "--duration"),
        (["--seed", "1.5"], "--seed"),
        (["--bogus"], "--bogus"),
        (["drum", "loop", "120 bpm"], "quote the prompt: musicgen generate 'drum loop 120 bpm'"),
        (["-", "x"], "a prompt is one argument, got 2: '-', 'x'"),
    ],
)
def test_wrong_usage_is_exit_2_before_anything_is_sent(
    musicgen: Run, service: HTTPServer, store_path: Path, words: list[str], message: str
) -> None:
    """The message names what is wrong; the service gets no request, and nothing is stored."""
    done = musicgen("generate", *words)

    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert "\x1b" not in done.err
    assert done.out == ""
    assert service.log == []
    assert not store_path.exists()


def test_variations_are_one_set_with_seeds_counting_up(musicgen: Run) -> None:
    """Their indices count up from 0, their seeds from the given one, and each has a line."""
    done = musicgen("generate", "x", "-d", "0.5", "-n", "3", "--seed", "10", "--json")

    takes = [json.loads(line) for line in done.lines]
    assert [take["seed"] for take in takes] == [10, 11, 12]
    assert [take["variation_index"] for take in takes] == [0, 1, 2]
    assert len({take["variation_set_id"] for take in takes}) == 1
    more = json.loads(musicgen("generate", "-d", "0.5", "--variation-set", takes[0]["variation_set_id"], "--json").out)
    assert more["variation_index"] == 3
    shown = musicgen("show", takes[0]["variation_set_id"], "-q")
    assert shown.lines == [take["id"] for take in [*takes, more]]


def test_from_repeats_a_take_and_makes_it_the_parent(musicgen: Run) -> None:
    """Prompt, parameters and seed are those of the take, except for what is given."""
    first = json.loads(musicgen("generate", "low drone", "-d", "0.5", "-g", "7", "--seed", "5", "--json").out)

    same = json.loads(musicgen("generate", "--from", "last", "--json").out)
    assert (same["prompt"], same["params"], same["parent_id"]) == ("low drone", first["params"], first["id"])
    assert same["content_hash"] == first["content_hash"]
    assert same["id"] == f"{first['id']}-2"

    other = json.loads(musicgen("generate", "high drone", "--from", first["id"], "--seed", "6", "--json").out)
    assert (other["prompt"], other["params"]["guidance_scale"], other["seed"]) == ("high drone", 7.0, 6)
    tree = musicgen("show", same["id"], "--tree", "-q")
    assert tree.lines == [first["id"], same["id"]]


def test_variations_of_a_take_have_new_seeds(musicgen: Run) -> None:
    """None of them repeats the take's sound, unless its seed is asked for."""
    first = json.loads(musicgen("generate", "drone", "-d", "0.5", "--seed", "5", "--json").out)

    takes = [json.loads(line) for line in musicgen("generate", "--from", "last", "-n", "3", "--json").lines]
    assert first["content_hash"] not in {take["content_hash"] for take in takes}
    assert [take["seed"] - takes[0]["seed"] for take in takes] == [0, 1, 2]
    assert {take["params"]["duration"] for take in takes} == {0.5}
    again = musicgen("generate", "--from", first["id"], "-n", "2", "--seed", "5", "--json")
    assert [json.loads(line)["seed"] for line in again.lines] == [5, 6]


def test_the_same_sound_twice_in_a_set_is_said(musicgen: Run, service: HTTPServer) -> None:
    """It is a warning, with the reason where that is known: without sampling the seed changes nothing."""
    service.clear()

    def deaf(request: Request) -> Response:
        return Response(json.dumps(fakes.good_answer(json.loads(request.data), fakes.tone(0.5))))

    service.expect_request("/predict").respond_with_handler(deaf)
    done = musicgen("generate", "x", "-d", "0.5", "-n", "2", "--greedy", "--variation-set", "s", "-q")
    one, two = done.lines
    reason = "without sampling the seed changes nothing"
    assert done.err == f"warning: {two} has the same sound as {one} of its set: {reason}\n"
    done = musicgen("generate", "x", "-d", "0.5", "--variation-set", "s", "-q")
    assert done.err == f"warning: {done.lines[0]} has the same sound as {one} of its set\n"
    assert musicgen("generate", "x", "-d", "0.5", "-n", "2", "-q").err.count("same sound") == 1
    assert musicgen("generate", "x", "-d", "0.5", "-q").err == ""


def test_an_imported_sound_is_no_start(musicgen: Run, service: HTTPServer, tmp_path: Path) -> None:
    """`--from` it is exit 2 with a sentence, as nothing is known of how it was made; a record that it has will do."""
    (tmp_path / "kick.wav").write_bytes(fakes.tone(0.5))
    id_ = musicgen("import", tmp_path / "kick.wav", "-q").out.strip()
    done = musicgen("generate", "snare", "--from", id_)

    assert done.code == 2
    assert done.err.startswith(f"error: {id_} has no prompt and no parameters to start from: it was imported\n")
    assert service.log == []
    musicgen("generate", "drone", "-d", "0.5", "-o", tmp_path / "drone.wav", "--store", tmp_path / "other")
    musicgen("import", tmp_path / "drone.wav")
    assert json.loads(musicgen("generate", "--from", "last", "--json").out)["prompt"] == "drone"


@pytest.mark.parametrize("quiet", [[], ["-q"], ["--quiet"]])
def test_a_piped_sound_may_be_quiet(quiet: list[str]) -> None:
    """With `-o -` the WAV is on stdout; `-q` leaves out the note with the id, and `export` takes it, too."""
    words = ["generate", "x", "-d", "0.5", "--seed", "3", "-o", "-", *quiet]
    done = subprocess.run([*MUSICGEN, *words], capture_output=True, check=False, timeout=60)
    exported = subprocess.run(
        [*MUSICGEN, "export", "last", "-o", "-", "-q"], capture_output=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout, exported.stdout) == (0, fakes.tone(0.5, seed=3), fakes.tone(0.5, seed=3))
    assert (done.stderr == b"") == bool(quiet)


def test_without_a_service_the_hint_names_the_lasting_way(musicgen: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same for a command, for Python, and for a job, as the MCP server starts them."""
    with socket.socket() as silent:  # its port is taken, and nothing listens there
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MUSICGEN_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        done = musicgen("generate", "x", "-d", "0.5")
        with pytest.raises(ServiceUnreachableError) as caught:
            generate("x", duration=0.5)
        job = musicgen("generate", "x", "-d", "0.5", "--detach").out.strip()
        polled = musicgen("job", "poll", job, "--timeout-ms", "30000")

    assert done.code == 4
    for words in ("`--local`", "MUSICGEN_LOCAL=true", "`local = true` in config.toml"):
        assert words in done.err
    assert caught.value.hint == NO_SERVICE_HINT
    assert json.loads(polled.out)["errors"][job].endswith(f"({NO_SERVICE_HINT})")


@pytest.mark.parametrize("option", ["--from", "--parent"])
def test_an_unknown_take_is_exit_3(musicgen: Run, service: HTTPServer, option: str) -> None:
    """It is looked up before anything is sent."""
    done = musicgen("generate", option, "deadbeef")

    assert done.code == 3
    assert done.err.splitlines() == [
        "error: no take matches 'deadbeef'",
        "hint: `musicgen list` shows what is stored",
    ]
    assert service.log == []


def test_a_seed_that_was_not_honoured_is_not_recorded(musicgen: Run, service: HTTPServer) -> None:
    """If the service ignores the seed or makes another length, there is a warning."""
    service.clear()
    service.expect_request("/predict").respond_with_handler(fakes.fast_api)

    done = musicgen("generate", "x", "-d", "1", "--seed", "7", "--json")

    record = json.loads(done.out)
    assert "seed" not in record
    assert record["params"]["seed"] == 7
    assert (record["duration"], record["requested_duration"]) == (0.94, 1.0)
    assert "requested 1 s, got 0.94 s" in done.err
    assert "the same seed may give another take" in done.err


def test_output_exports_the_take(musicgen: Run, tmp_path: Path, store_path: Path) -> None:
    """`-o FILE` creates missing folders; `-o FOLDER/` chooses names for the files."""
    file = tmp_path / "new" / "piano.wav"
    done = musicgen("generate", "calm piano", "-d", "0.5", "--seed", "7", "-o", file)

    assert done.code == 0
    assert f"wrote {file}" in done.err
    assert fakes.exported(file) == fakes.tone(0.5, seed=7)
    musicgen("generate", "calm piano", "-d", "0.5", "--seed", "1", "-n", "2", "-o", f"{tmp_path}/many/")
    assert sorted(path.name[:12] for path in (tmp_path / "many").iterdir()) == ["calm-piano-1", "calm-piano-2"]


def test_an_existing_target_is_refused_before_anything_is_made(
    musicgen: Run, tmp_path: Path, service: HTTPServer
) -> None:
    """`--force` replaces it."""
    file = tmp_path / "x.wav"
    file.write_bytes(b"precious")

    done = musicgen("generate", "-d", "0.5", "-o", file)
    assert done.code == 1
    assert "exists already" in done.err
    assert file.read_bytes() == b"precious"
    assert service.log == []

    assert musicgen("generate", "-d", "0.5", "-o", file, "--force").code == 0
    assert file.read_bytes()[:4] == b"RIFF"


def test_a_failed_export_loses_no_take(musicgen: Run, tmp_path: Path) -> None:
    """The take is stored and its id printed; the exit code is 1."""
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")

    done = musicgen("generate", "-d", "0.5", "-q", "-o", blocker / "x.wav")

    assert done.code == 1
    assert "can't write" in done.err
    assert musicgen("list", "-q").out == done.out


def test_errors_can_be_json(musicgen: Run, service: HTTPServer) -> None:
    """With `--json` an error is one object on stderr with code, message, hint and exit code."""
    service.clear()
    service.expect_request("/predict").respond_with_json({"detail": "no \x1b[31mway"}, 500)

    done = musicgen("generate", "x", "--json")

    assert done.code == 6
    assert json.loads(done.err) == {
        "error": {
            "code": "service-error",
            "message": "the service answered 500: no \x1b[31mway",
            "hint": None,
            "exit_code": 6,
        }
    }
    assert "\x1b" not in done.err


def test_a_bad_answer_stores_nothing(musicgen: Run, service: HTTPServer, store_path: Path) -> None:
    """Half a WAV is exit 6, and the store is not created."""
    service.clear()

    def half(request: Request) -> Response:
        sound = fakes.tone(0.5)
        body = fakes.good_answer(json.loads(request.data), sound)
        body["audio_base64"] = base64.b64encode(sound[:-8000]).decode()
        return Response(json.dumps(body), content_type="application/json")

    service.expect_request("/predict").respond_with_handler(half)

    done = musicgen("generate", "x")

    assert done.code == 6
    assert "audio_base64" in done.err
    assert not store_path.exists()


def test_variations_before_a_failure_stay_stored(musicgen: Run, service: HTTPServer) -> None:
    """The exit code is 1, and the message says how many there are."""
    service.clear()
    service.expect_ordered_request("/predict").respond_with_handler(fakes.ours)
    service.expect_ordered_request("/predict").respond_with_json({"detail": "out of luck"}, 500)

    done = musicgen("generate", "x", "-d", "0.5", "-n", "3", "-q")

    assert done.code == 1
    assert "made 1 of 3, then: the service answered 500: out of luck" in done.err
    assert len(done.lines) == 1
    assert musicgen("list", "-q").out == done.out


@pytest.mark.parametrize("bad", ["a file", "read-only"])
def test_a_store_that_cannot_be_written_is_exit_1(musicgen: Run, tmp_path: Path, bad: str) -> None:
    """There is one message with a hint."""
    place = tmp_path / "blocked"
    if bad == "a file":
        place.write_bytes(b"")
    else:
        place = Path("/proc/musicgen")

    done = musicgen("generate", "x", "-d", "0.5", "--store", place)

    assert done.code == 1
    assert done.err.count("\n") == 2
    assert "hint: `--store DIR`" in done.err


def test_ctrl_c_removes_the_bars_before_it_says_so() -> None:
    """The threads that still generate show nothing more, and the terminal has its cursor back."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    words = ("generate", "--local", "x", "-d", "30", "-n", "4")
    code, shown = on_terminal("-m", "musicgen_cli", *words, interrupt_after=b"real time")

    assert code == 130
    assert shown.rstrip().endswith("error: interrupted")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_a_length_can_be_given_in_bars(musicgen: Run, service: HTTPServer, store_path: Path) -> None:
    """At the tempo that the prompt or an option names; what was reckoned is said, and the service gets seconds."""
    done = musicgen("generate", "house beat 128 bpm", "--bars", 4, "--json")
    assert done.code == 0, done.err
    assert (json.loads(done.out)["requested_duration"], json.loads(done.out)["params"]["duration"]) == (7.5, 7.5)
    assert done.err == '{"note":{"message":"4 bars at 128 bpm: 7.5 s"}}\n'
    assert "bars" not in json.loads(service.log[-1][0].data)

    done = musicgen("generate", "--from", "last", "--bars", 2, "-q")  # of the same prompt
    assert (done.code, done.err) == (0, "")
    assert json.loads(musicgen("show", "--json").out)["requested_duration"] == 3.75
    done = musicgen("generate", "house beat", "--bars", "1", "--bpm", "120")
    assert (
        done.err
        == "1 bar at 120 bpm: 2 s, but the prompt doesn't name that tempo, and a model goes by the prompt alone\n"
    )


def test_a_length_in_bars_that_is_none_makes_nothing(musicgen: Run, service: HTTPServer, store_path: Path) -> None:
    """Without a tempo, or beside a duration."""
    for words, message in (
        (["house", "--bars", 4], "4 bars need a tempo, and the prompt doesn't name one"),
        (["house 128 bpm", "--bars", 4, "-d", 8], "bars and duration contradict each other"),
        (["house 128 bpm", "--bpm", 128], "bpm needs bars"),
    ):
        done = musicgen("generate", *words)
        assert done.code == 2
        assert f"error: {message}" in done.err
    assert service.log == []
    assert not store_path.exists()
