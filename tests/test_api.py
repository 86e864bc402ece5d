from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

import musicgen_cli
from musicgen_cli import (
    Filter,
    InvalidValueError,
    MusicgenError,
    NoAudioEncoderError,
    ServiceError,
    Store,
    UsageError,
    batch,
    generate,
)
from tests.support import fakes
from tests.test_errors import KINDS

ROWS: list[dict[str, Any]] = [{"prompt": prompt, "duration": 0.5} for prompt in ("rain", "snow", "rain")]


@pytest.fixture
def healthy(service: HTTPServer) -> HTTPServer:
    service.expect_request("/health").respond_with_json({"model": "nano"})
    return service


def test_takes_can_be_made_from_python(
    service: HTTPServer, store_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are stored, and nothing is printed."""
    takes = generate("rain", duration=0.5, seed=3, variations=2, tags=["x"])

    assert [(take.seed, take.variation_index, take.tags[-1]) for take in takes] == [(3, 0, "x"), (4, 1, "x")]
    assert [take.id for take in Store(store_path).newest(None)] == [take.id for take in takes][::-1]
    (again,) = generate(from_id="last")
    assert (again.prompt, again.seed, again.parent_id) == ("rain", 4, takes[1].id)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("healthy")
def test_batches_can_be_run_from_python(store_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each take is yielded as it ends; stored takes are not made again."""
    assert [outcome.item.line for outcome in batch(ROWS)] == [1, 2, 3]
    assert list(batch(ROWS)) == []
    assert len(list(batch(ROWS, run="again", sweep=["seed=1,2"]))) == 6
    assert len(list(Store(store_path).newest(None))) == 9
    assert list(batch([])) == []
    assert capfd.readouterr() == ("", "")


def test_errors_are_raised_or_yielded(healthy: HTTPServer, store_path: Path) -> None:
    """Wrong rows are raised before anything is made; a failed take is yielded with its error."""
    with pytest.raises(InvalidValueError, match=r"row 2: seed must be .*; row 3: unknown field 'promt'"):
        list(batch([{"prompt": "a"}, {"seed": -1}, {"promt": "b"}]))
    with pytest.raises(UsageError):
        generate("x", model="nano")
    assert not store_path.exists()
    healthy.clear()
    healthy.expect_request("/health").respond_with_json({"model": "nano"})
    healthy.expect_request("/predict").respond_with_json({"detail": "no"}, 500)
    assert all(isinstance(outcome.error, ServiceError) for outcome in batch(ROWS, retry=0))


def test_importing_the_package_loads_nothing_else() -> None:
    """Reading the version is fast."""
    code = "import sys, musicgen_cli; print([name for name in sys.modules if name.startswith('musicgen_cli.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert done.stdout == "['musicgen_cli._version']\n"


def test_a_misspelt_field_is_a_type_error_that_names_the_nearest(service: HTTPServer, store_path: Path) -> None:
    """As Python does with every other argument: nothing is made at defaults that nobody asked for."""
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'durations'; did you mean 'duration'\?"):
        generate("x", durations=1)
    with pytest.raises(TypeError, match="'tag'; did you mean 'tags'"):
        generate("x", tag="mine")
    with pytest.raises(TypeError, match="'zzz'; fields are prompt, duration, temperature,"):
        generate("x", zzz=1)
    assert service.log == []
    assert not store_path.exists()


@pytest.mark.usefixtures("healthy")
def test_one_text_is_not_a_list_of_its_letters(store_path: Path) -> None:
    """Wherever several texts are taken, one will do; a folder may be a text, too."""
    (take,) = generate("rain", duration=0.5, tags="mytag", store=str(store_path))
    assert take.tags[4:] == ("mytag",)

    store = Store(str(store_path))
    assert [each.id for each in store.newest(None, Filter(tags="mytag"))] == [take.id]  # type: ignore[arg-type]
    assert store.tag(take.id, add="other", rm="mytag")[0].tags[4:] == ("other",)
    assert store.get_many("last") == [store.get(take.id)]
    assert [each.id for each in store.remove(take.id)] == [take.id]

    assert len(list(batch([{"duration": 0.5}], sweep="seed=1,2", store=str(store_path)))) == 2
    with pytest.raises(TypeError, match="rows must be a list of mappings, got one dict"):
        list(batch({"prompt": "rain"}))  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="rows must be a list of mappings, got one str"):
        list(batch("rain"))  # type: ignore[arg-type]


@pytest.mark.usefixtures("healthy")
def test_numbers_and_takes_are_understood_as_a_program_has_them(store_path: Path) -> None:
    """A whole number may be a float or a number of numpy, and a take stands for its id."""
    numpy = pytest.importorskip("numpy", reason="needs the extra local")
    takes = generate("rain", duration=0.5, variations=2.0, seed=numpy.int64(7))  # type: ignore[arg-type]
    assert [take.seed for take in takes] == [7, 8]
    assert generate("house 120 bpm", bars=1.0)[0].requested_duration == 2.0
    (child,) = generate(from_id=takes[0], parent_id=takes[1])
    assert (child.seed, child.parent_id) == (7, takes[1].id)
    rows = [{"prompt": "snow", "duration": 0.5, "seed": numpy.float64(3), "variations": numpy.int32(2)}]
    assert len([*batch(rows, jobs=1.0, retry=0.0)]) == 2  # type: ignore[arg-type]


def test_takes_go_on_from_sounds(store_path: Path, tmp_path: Path) -> None:
    """From a take, its id, or a file; what isn't given is as in the source."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    (first,) = generate("calm piano", duration=1, seed=7, top_k=50, local=True, model="nano")
    (second,) = generate(continue_=first, duration=0.5, local=True, model="nano")
    (third,) = generate("techno", continue_=second.id, duration=0.5, overlap=5, local=True, model="nano")
    (outcome,) = batch([{"continue": third.id, "duration": 0.5}], local=True, model="nano")
    misspelt: dict[str, Any] = {"continue": first.id}
    (tmp_path / "tune.wav").write_bytes(fakes.tone(1.0))
    for tune in (tmp_path / "tune.wav", str(tmp_path / "tune.wav")):
        with pytest.raises(NoAudioEncoderError):
            generate(continue_=tune, local=True, model="nano")
    with pytest.raises(InvalidValueError, match="must not be empty"):
        generate(continue_="", local=True, model="nano")
    with pytest.raises(TypeError, match="did you mean 'continue_'"):
        generate(**misspelt)

    assert (second.prompt, second.params["top_k"], second.parent_id) == ("calm piano", 50, first.id)
    assert (third.prompt, third.duration, (third.extra or {})["overlap"]) == ("techno", 2.0, 5)
    assert outcome.artifact is not None
    assert (outcome.artifact.prompt, outcome.artifact.duration) == ("techno", 2.5)
    assert len([*Store(store_path).newest(None)]) == 5


def test_wrong_values_are_errors_of_their_own(service: HTTPServer, store_path: Path) -> None:
    """Not ones from somewhere inside, nor a batch that does nothing or never ends."""
    for variations in (2.5, "2", True):
        with pytest.raises(InvalidValueError, match=f"variations must be a whole number, 1-64, got {variations!r}"):
            generate("x", variations=variations)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="a tag must be text, got 1"):
        generate("x", tags=[1])  # type: ignore[list-item]
    with pytest.raises(InvalidValueError, match="variation_set_id must be text, got 5"):
        generate("x", variation_set_id=5)  # type: ignore[arg-type]
    for numbers in ({"jobs": -1}, {"retry": -1}, {"max_failures": 0}, {"retry": None}):
        (name,) = numbers
        with pytest.raises(InvalidValueError, match=f"{name} must be a whole number"):
            [*batch(ROWS, **numbers)]
    with pytest.raises(TypeError, match="rows must be a list of mappings, and row 1 is a str"):
        [*batch(["rain"])]  # type: ignore[list-item]
    assert service.log == []
    assert not store_path.exists()


def test_the_package_has_every_error() -> None:
    """A program can catch each kind by its public name."""
    for kind in KINDS:
        assert getattr(musicgen_cli, kind.__name__) is kind
        assert kind.__name__ in musicgen_cli.__all__
    assert {name for name in musicgen_cli.__all__ if not hasattr(musicgen_cli, name)} == set()
    assert {*musicgen_cli.__all__} <= {*dir(musicgen_cli)}
    assert issubclass(UsageError, MusicgenError)


def test_warnings_of_a_take_are_logged(
    httpserver: HTTPServer, store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the command prints them: nothing else would tell a program that a value was clamped."""

    def clamp(request: Request) -> Response:
        body = fakes.good_answer(json.loads(request.data) | {"duration": 0.5})
        warning = '299 musicgen "duration 5 is out of range, 0.5 was used"'
        return Response(json.dumps(body), content_type="application/json", headers={"Warning": warning})

    httpserver.expect_request("/predict").respond_with_handler(clamp)
    generate("x", duration=5, url=httpserver.url_for("/"), store=store_path)

    logged = [(record.levelname, record.message) for record in caplog.records if record.name == "musicgen"]
    assert logged == [("WARNING", "duration 5 is out of range, 0.5 was used"), ("WARNING", "requested 5 s, got 0.5 s")]
