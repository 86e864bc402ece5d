"""Sounds that takes are made from: found by their names, checked, and imported."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.actions.generate import GenerateOptions, PlannedTake, expected_bytes, make, plan
from musicgen_cli.actions.source_finder import SoundOptions
from musicgen_cli.audio.wav import inspect, pcm16_wav
from musicgen_cli.engine.base import NullListener
from musicgen_cli.errors import (
    ArtifactNotFoundError,
    DamagedError,
    InvalidValueError,
    MusicgenError,
    NotFoundError,
    SourceGoneError,
    UsageError,
)
from musicgen_cli.store import Artifact, Store
from tests.support.fake_engine import FakeEngine
from tests.support.fakes import tone


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def source(store: Store, engine: FakeEngine) -> Artifact:
    """Return a stored take of 2 s with parameters of its own."""
    fields = {"prompt": "calm piano", "duration": 2.0, "seed": 7, "top_k": 50, "guidance_scale": 5.0}
    return made(plan(GenerateOptions(fields), store), engine, store)


def made(takes: list[PlannedTake], engine: FakeEngine, store: Store) -> Artifact:
    """Make and store the only take that was planned."""
    (take,) = takes
    return make(take, engine, store, NullListener()).artifact


def planned(store: Store, continue_: object = None, **more: Any) -> list[PlannedTake]:
    """Plan takes; `continue_` and `melody` are names, the rest are fields and members of the options."""
    sounds = SoundOptions(
        None if continue_ is None else str(continue_), more.pop("melody", None), more.pop("overlap", None)
    )
    names = ("variations", "from_id", "parent_id")
    options = {name: more.pop(name) for name in names if name in more}
    return plan(GenerateOptions(more, sounds=sounds, **options), store)


def test_a_continuation_has_the_prompt_and_the_parameters_of_its_source(
    store: Store, engine: FakeEngine, source: Artifact
) -> None:
    """Its seed is new, its parent is the source, and both lengths count the source."""
    (take,) = planned(store, "last", duration=1.0)
    stored = make(take, engine, store, NullListener())

    request = take.request
    assert (request.prompt, request.top_k, request.guidance_scale, request.duration) == ("calm piano", 50, 5.0, 1.0)
    assert request.seed not in {None, 7}
    assert engine.inputs[-1].continue_wav == store.read_blob(source)
    record = stored.artifact
    assert (record.parent_id, record.duration, record.requested_duration) == (source.id, 3.0, 3.0)
    assert record.params["duration"] == 1.0
    member = {"id": source.id, "content_hash": source.content_hash, "duration": 2.0}
    assert member.items() <= (record.extra or {})["continue"].items()
    assert stored.warnings == ()
    assert expected_bytes(take) == 3 * 32_000 * 2


def test_what_is_given_replaces_what_the_source_has(store: Store, source: Artifact) -> None:
    """Bars replace its length, too."""
    (take,) = planned(store, source.id, prompt="techno, 120 bpm", bars=1, seed=3, temperature=0.5, overlap=5.0)

    assert (take.request.prompt, take.request.duration, take.request.seed) == ("techno, 120 bpm", 2.0, 3)
    assert (take.request.temperature, take.request.top_k) == (0.5, 50)
    assert take.draft.extra["overlap"] == 5.0


def test_a_clip_of_another_length_than_source_and_new_sound_is_warned_of(
    store: Store, engine: FakeEngine, source: Artifact
) -> None:
    """The warning names both lengths as they are in the record."""
    (take,) = planned(store, source.id, duration=1.0)
    shorter = take.request.model_copy(update={"duration": 0.5})
    clip = engine.generate(shorter, NullListener(), engine.inputs[-1])

    class Short(FakeEngine):
        def generate(self, *_: Any) -> Any:
            return clip

    assert make(take, Short(), store, NullListener()).warnings == ("requested 3 s, got 0.5 s",)


def test_variations_of_a_continuation_are_a_set_below_the_source(store: Store, source: Artifact) -> None:
    """Their seeds count up from one that was drawn."""
    takes = planned(store, source.id, variations=4)

    assert {take.draft.parent_id for take in takes} == {source.id}
    assert len({take.draft.variation_set_id for take in takes}) == 1
    seeds = [take.request.seed or 0 for take in takes]
    assert seeds == [*range(seeds[0], seeds[0] + 4)]


def test_a_melody_lends_its_tune_alone(store: Store, engine: FakeEngine, source: Artifact) -> None:
    """Neither its prompt nor its parameters are taken over, and the take isn't longer by it."""
    (take,) = planned(store, melody=source.id, prompt="synthwave", duration=1.0)
    stored = make(take, engine, store, NullListener()).artifact

    assert (take.request.prompt, take.request.top_k) == ("synthwave", 250)
    assert (engine.inputs[-1].melody_wav, engine.inputs[-1].continue_wav) == (store.read_blob(source), None)
    assert (stored.duration, stored.parent_id, (stored.extra or {})["melody"]["id"]) == (1.0, source.id, source.id)


def test_from_a_continuation_makes_it_again_from_the_same_sound(
    store: Store, engine: FakeEngine, source: Artifact
) -> None:
    """Same seed, same source: the same bytes. The new take comes from the old one, and a sound given replaces its."""
    first = made(planned(store, source.id, duration=1.0, overlap=3.0), engine, store)
    again = made(planned(store, from_id=first.id), engine, store)
    (other,) = planned(store, first.id, from_id=first.id)
    (melody,) = planned(store, melody=source.id, from_id=first.id, overlap=4.0)

    assert (again.content_hash, again.parent_id, again.extra) == (first.content_hash, first.id, first.extra)
    assert engine.inputs[-1].overlap == 3.0
    assert (other.draft.extra["continue"]["id"], other.draft.parent_id) == (first.id, first.id)
    assert melody.draft.extra.keys() == {"melody", "overlap"}


def test_a_parent_that_is_named_is_the_parent(store: Store, engine: FakeEngine, source: Artifact) -> None:
    """As beside `--from`; the record names the source all the same."""
    (other,) = planned(store, prompt="other", duration=0.5)
    parent = make(other, engine, store, NullListener()).artifact
    (take,) = planned(store, source.id, parent_id=parent.id)

    assert (take.draft.parent_id, take.draft.extra["continue"]["id"]) == (parent.id, source.id)


def test_a_file_is_imported_once(store: Store, tmp_path: Path) -> None:
    """It gets the tags and the name that an import gives it; what it lacks, such as a prompt, has its default."""
    path = tmp_path / "tune.wav"
    path.write_bytes(tone(1.0))
    (first,), (second,) = planned(store, path), planned(store, path, prompt="piano")
    (imported,) = store.newest(None)

    assert first.draft.parent_id == second.draft.parent_id == imported.id
    assert {"phase:import", "name:tune"} <= {*imported.tags}
    assert (first.request.prompt, first.request.duration, second.request.prompt) == ("", 10.0, "piano")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_the_file_of_a_stored_take_is_that_take(
    store: Store, source: Artifact, tmp_path: Path, suffix: str, musicgen: Any
) -> None:
    """An export, with its metadata or in a lossless format, is not imported beside it."""
    if suffix == "flac":
        pytest.importorskip("soundfile", reason="needs the extra audio")
    path = tmp_path / f"export.{suffix}"
    assert musicgen("export", source.id, "-o", path, "--store", store.root).code == 0
    (take,) = planned(store, path)

    assert (take.draft.parent_id, take.request.prompt) == (source.id, "calm piano")
    assert len([*store.newest(None)]) == 1


def test_an_id_wins_over_a_file_only_if_it_has_the_form_of_one(
    store: Store, source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file called like an id that no take has is that file, and so is any other name that a file has."""
    monkeypatch.chdir(tmp_path)
    digits = source.content_hash[:8]
    for name in (digits, "last", "0123beef", "tune"):
        Path(name).write_bytes(tone(1.0, seed=5))

    assert planned(store, digits)[0].draft.parent_id == source.id
    assert planned(store, "last")[0].draft.parent_id == source.id
    assert len({planned(store, name)[0].draft.parent_id for name in ("0123beef", "tune", "./last")}) == 1


QUIET = pcm16_wav(b"\x01\x00" * 32_000, sample_rate=32_000, channels=1)


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (b"# not a sound\n", "'{}' can't be used: not a WAV: no RIFF/WAVE header"),
        (b"", "'{}' can't be used: not a WAV: no RIFF/WAVE header"),
        (tone(0.4), "'{}' has 0.4 s, 0.5-600 s can be used"),
        (pcm16_wav(bytes(2 * 601 * 4000), sample_rate=4000, channels=1), "'{}' has 601 s, 0.5-600 s can be used"),
        (pcm16_wav(bytes(64_000), sample_rate=32_000, channels=1), "'{}' is silent"),
        (QUIET, "'{}' is silent"),
        (tone(1.0, rate=2000), "'{}' has 2000 Hz, 4000-192000 Hz can be used"),
        (tone(1.0, channels=9), "'{}' has 9 channels, at most 8 can be used"),
    ],
)
def test_a_sound_that_cant_be_used_is_refused_and_not_imported(
    store: Store, tmp_path: Path, sound: bytes, message: str
) -> None:
    """One sentence each, before anything is stored."""
    path = tmp_path / "a.wav"
    path.write_bytes(sound)
    with pytest.raises(InvalidValueError) as caught:
        planned(store, path)

    assert str(caught.value) == message.format(path)
    assert not store.root.exists()


def test_a_sound_whose_end_is_silent_is_refused(store: Store, tmp_path: Path) -> None:
    """As far as the model would read it; more is read where the new sound leaves room for that."""
    path = tmp_path / "a.wav"
    pcm = tone(1.0)[44:] + bytes(2 * 32_000 * 13)
    path.write_bytes(pcm16_wav(pcm, sample_rate=32_000, channels=1))
    with pytest.raises(InvalidValueError, match=r"the last 12 s of the sound are silent: there is nothing to go on"):
        planned(store, path, duration=25.0)
    assert not store.root.exists()

    assert planned(store, path, duration=10.0)
    assert planned(store, path, duration=25.0, overlap=20.0)
    assert planned(store, melody=str(path), duration=25.0)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("missing.wav", InvalidValueError, "there is no file 'missing.wav'"),
        (".", InvalidValueError, "'.' is not a file"),
        ("0123beef", ArtifactNotFoundError, "no take matches '0123beef'"),
        ("piano", NotFoundError, "'piano' is neither a take nor a file"),
    ],
)
def test_a_sound_that_isnt_there(store: Store, name: str, kind: type[MusicgenError], message: str) -> None:
    """A path is refused as a value, an id as one that isn't stored."""
    with pytest.raises(kind) as caught:
        planned(store, name)

    assert str(caught.value) == message


def test_a_take_goes_on_from_a_sound_or_follows_a_tune(store: Store, source: Artifact) -> None:
    with pytest.raises(UsageError, match="continue and melody contradict each other"):
        planned(store, source.id, melody=source.id)


@pytest.mark.parametrize("overlap", [0.5, 25.5, float("nan"), True, "5"])
def test_an_overlap_is_checked(store: Store, overlap: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"overlap must be 1-25 s, got "):
        planned(store, overlap=overlap)


def test_a_source_that_is_damaged_or_gone_says_so(store: Store, engine: FakeEngine, source: Artifact) -> None:
    """Damage is found before anything is made; a take that was removed meanwhile, when it is needed."""
    (take,) = planned(store, source.id, duration=1.0)
    first = make(take, engine, store, NullListener()).artifact
    store.remove(source.id)
    for later in (lambda: make(take, engine, store, NullListener()), lambda: planned(store, from_id=first.id)):
        with pytest.raises(SourceGoneError) as caught:
            later()
        assert str(caught.value) == f"{source.id}, which the take is made from, was removed"
    blob = store.blob_path(first)
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x55")
    with pytest.raises(DamagedError):
        planned(store, first.id)


@pytest.mark.parametrize(
    "extra",
    [{"continue": "text"}, {"continue": {"id": 5}}, {"melody": {}}, {"continue": {"id": "artifact_0123456789ab"}}],
)
def test_a_record_of_another_program_is_no_crash(store: Store, source: Artifact, extra: dict[str, Any]) -> None:
    """Its `extra` may hold anything under these names."""
    from dataclasses import replace

    from musicgen_cli.store import as_draft

    foreign = store.put(store.read_blob(source), replace(as_draft(source.record), extra=extra))
    with pytest.raises(SourceGoneError):
        planned(store, from_id=foreign.id)


def test_a_file_that_changes_before_it_is_imported_is_refused(store: Store, tmp_path: Path) -> None:
    """So what was checked is what is stored."""
    from musicgen_cli.actions.source_finder import SourceFinder

    path = tmp_path / "a.wav"
    path.write_bytes(tone(1.0))
    finder = SourceFinder(store, creator="me")
    sounds = finder.find(SoundOptions(str(path)))
    path.write_bytes(tone(1.0, seed=9))
    with pytest.raises(InvalidValueError, match="has changed since it was checked"):
        finder.store(sounds)

    assert not store.root.exists()


def test_an_mp3_is_imported_as_a_wav(store: Store, engine: FakeEngine, tmp_path: Path) -> None:
    """With ffmpeg or the extra audio; its take is the WAV that `import` makes."""
    soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")
    np = pytest.importorskip("numpy", reason="needs the extra local")
    path = tmp_path / "tune.mp3"
    soundfile.write(path, np.sin(np.arange(64_000) * 0.05), 32_000)
    shutil.copy(path, tmp_path / "copy.mp3")
    (take,) = planned(store, path, duration=1.0)
    (again,) = planned(store, tmp_path / "copy.mp3", duration=1.0)
    stored = make(take, engine, store, NullListener()).artifact
    (imported,) = (each for each in store.newest(None) if each.origin["kind"] == "import")

    assert take.draft.parent_id == again.draft.parent_id == stored.parent_id == imported.id
    assert stored.duration == imported.duration + 1.0
    assert inspect(engine.inputs[-1].continue_wav or b"").duration == imported.duration
