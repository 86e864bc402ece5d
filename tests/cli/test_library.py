from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli import audio, settings
from musicgen_cli.audio.wav import inspect, read_info
from musicgen_cli.extras import install_command
from musicgen_cli.store import Store
from tests.support import fakes
from tests.support.command_line import MUSICGEN, Run
from tests.support.takes import damage, put_take
from tests.support.terminal import on_terminal


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


def test_list_shows_the_newest_first(musicgen: Run, store: Store) -> None:
    """It shows twenty takes, unless `-n` or `--all` asks for another number."""
    ids = [put_take(store, seed=seed).id for seed in range(23)][::-1]

    assert musicgen("list", "-q").lines == ids[:20]
    assert musicgen("list", "-q", "-n", "2").lines == ids[:2]
    assert musicgen("list", "-q", "--all").lines == ids


def test_an_empty_store_is_an_empty_list(musicgen: Run, store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no error but said on stderr, unless `-q`, and the store is not created."""
    monkeypatch.delenv("MUSICGEN_STORE")  # the default place, where there is none before the first take
    default = settings.load().store
    done = musicgen("list")

    assert (done.code, done.out) == (0, "")
    assert done.err == f"no takes in {default}: `musicgen generate` makes one\n"
    done = musicgen("ls", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert json.loads(musicgen("list", "--json").err)["note"]["message"].startswith("no takes in")
    assert musicgen("show").err.startswith("error: there is no last take: the store is empty\n")
    assert not default.exists()
    store_path.mkdir()
    assert musicgen("list", "-q", "--store", store_path).err == ""  # made by the user, and empty


READING = ("list", "list -q", "show", "play", "export last", "tag last --add x", "name last x", "rm last", "undo",
           "gallery -o page", "job list", "job wait", "store stats", "store check", "store repair", "store compact",
           "store gc")  # fmt: skip


@pytest.mark.parametrize("line", READING)
def test_a_store_that_is_none_is_said_by_every_command(
    musicgen: Run, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """The name may be misspelt, in an option or in the environment, and an empty store looks the same."""
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "music"
    other.mkdir()
    (other / "song.wav").write_bytes(b"RIFF")
    for words, warning in (
        ([], f"warning: there is no folder {store_path} (MUSICGEN_STORE)\n"),
        (["--store", other], f"warning: {other} is no store: it has no index.jsonl (--store)\n"),
    ):
        done = musicgen(*line.split(), *words)
        assert done.err.startswith(warning)
        assert done.err.count("warning") == 1
        expected = 3 if "no last take" in done.err or "no removed take" in done.err else 0
        assert done.code == (1 if line == "store check" and words else expected)  # of another program's modes
    assert not store_path.exists()
    assert [path.name for path in other.iterdir()] == ["song.wav"]


def test_a_store_with_jobs_alone_is_no_mistake(musicgen: Run, service: HTTPServer, store_path: Path) -> None:
    """Until their first take is stored, there is no folder."""
    service.clear()
    service.expect_request("/predict").respond_with_json({"detail": "no"}, 500)
    assert musicgen("generate", "x", "--detach").code == 0

    assert "warning" not in musicgen("job", "list").err
    assert "warning" not in musicgen("job", "wait").err
    assert not store_path.exists()


def test_filters_combine(musicgen: Run, store: Store) -> None:
    """A take is listed if it passes all filters: tags, creator, set, parent, model, text and time."""
    parent = put_take(store, "parent", seed=1)
    match = put_take(
        store, "Deep FOREST at night", seed=2, tags=("a", "b"), creator="us", origin={"model": "small"},
        parent_id=parent.id, variation_set_id="s", variation_index=0,
    )  # fmt: skip
    put_take(store, "deep forest", seed=3, tags=("a",), creator="us", origin={"model": "small"})

    for words in (
        ["--tag", "a", "--tag", "b"], ["--parent", parent.id], ["--set", "s"], ["--search", "forest AT"],
        ["--creator", "us", "--model", "small", "--tag", "b", "--since", "1h", "--until", "2999-01-01"],
    ):  # fmt: skip
        assert musicgen("list", "-q", *words).lines == [match.id], words
    ever = ["--since", "1960-01-01", "--until", "9998-12-31"]
    assert musicgen("list", "-q", *ever).lines == musicgen("list", "-q").lines
    for words in (["--tag", "c"], ["--since", "2999-01-01"], ["--until", "2d"], ["--model", "nan"]):
        assert musicgen("list", "-q", *words).lines == [], words
        assert (done := musicgen("list", *words)).err == "no take matches\n", done


def test_words_without_quotes_are_explained(musicgen: Run, store: Store) -> None:
    """A value with blanks that isn't quoted arrives as several arguments."""
    done = musicgen("list", "--search", "calm", "piano")

    assert done.code == 2
    assert "hint: quote what has blanks" in done.err


@pytest.mark.parametrize("words", [["-n", "0"], ["-n", "1", "--all"], ["--since", "soon"], ["--until", "2026-13-01"]])
def test_wrong_filters_are_exit_2(musicgen: Run, store: Store, words: list[str]) -> None:
    """A number below 1, `-n` with `--all`, and invalid times are wrong usage."""
    assert musicgen("list", *words).code == 2


def test_a_record_is_one_line_whatever_the_prompt(musicgen: Run, store: Store) -> None:
    """Tabs and line ends become spaces, control characters become escapes, and Rich markup stays as it is."""
    put_take(store, "a\tb\nc \x1b]52;c;x\x07 \u202e [bold]d[/]")

    (line,) = musicgen("list").lines
    assert line.split("\t")[-1] == r"a b c \x1b]52;c;x\x07 \u202e [bold]d[/]"
    (line,) = musicgen("list", "--json").lines
    assert line.isprintable()
    assert json.loads(line)["prompt"] == "a\tb\nc \x1b]52;c;x\x07 \u202e [bold]d[/]"


def test_show_takes_an_id_a_prefix_or_last(musicgen: Run, store: Store) -> None:
    """It prints the record as JSON, or the path of the blob."""
    one = put_take(store, "one", seed=1)
    two = put_take(store, "two", seed=2)

    assert json.loads(musicgen("show", "last", "--json").out)["id"] == two.id
    assert json.loads(musicgen("show", one.id[9:14], "--json").out)["prompt"] == "one"
    assert musicgen("show", one.id, "--path").out == f"{store.blob_path(one)}\n"
    assert musicgen("show", "nothing").code == 3
    assert musicgen("show", "last", "--path", "--tree").code == 2


def test_without_an_id_show_means_the_newest_take(musicgen: Run, store: Store) -> None:
    """It is the same as `last`."""
    put_take(store, "one", seed=1)
    two = put_take(store, "two", seed=2)

    assert musicgen("show", "-q").lines == [two.id]
    assert musicgen("show", "--path").lines == [str(store.blob_path(two))]


def test_a_set_stands_for_its_takes(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """`show` and `export` take its id; where one take is needed, a set of one will do, and others are named."""
    ids = [put_take(store, seed=seed, variation_set_id="s1", variation_index=seed).id for seed in range(3)]
    lone = put_take(store, seed=3, variation_set_id="s2", variation_index=0).id

    assert musicgen("show", "s1", "-q").lines == ids
    done = musicgen("export", lone, "s1", "-o", f"{tmp_path}/", "--name", "{index}")
    assert [Path(line).name for line in done.lines] == ["0.wav", "0-2.wav", "1.wav", "2.wav"]
    assert musicgen("export", "s1", "-o", tmp_path / "x.wav").code == 2
    for words in (["generate", "--from", "s1"], ["generate", "--parent", "s1"], ["list", "--parent", "s1"]):
        done = musicgen(*words)
        assert done.code == 3
        assert f"'s1' could be any of {', '.join(ids)}" in done.err
    assert musicgen("list", "--parent", "s2").code == 0


def test_ls_is_list(musicgen: Run, store: Store) -> None:
    """It takes the same options."""
    take = put_take(store)

    assert musicgen("ls", "-q", "-n", "1", "--search", "x").lines == [take.id]


def test_show_prints_the_levels_of_a_take(musicgen: Run, store: Store) -> None:
    """Piped, they follow the record as names and values, without a drawing; `--json` and `-q` leave them out."""
    take = put_take(store)
    record, *more = musicgen("show", take.id).lines

    assert record.split("\t")[0] == take.id
    assert more == ["peak\t-11.2 dBFS", "rms\t-14.2 dBFS", "clipped\t0 samples", "silence\t0 %"]
    assert "peak" not in json.loads(musicgen("show", take.id, "--json").out)
    assert musicgen("show", take.id, "-q").lines == [take.id]


@pytest.mark.usefixtures("store_path")
def test_takes_are_drawn_on_a_terminal(store: Store) -> None:
    """`show` draws as wide as the terminal, `list --wave` in each row; damaged audio is named, and is exit 7."""
    (good, bad) = (put_take(store, seed=seed) for seed in (1, 2))
    code, shown = on_terminal("-m", "musicgen_cli", "show", good.id, columns=90)
    assert code == 0
    drawn = [line for line in shown.splitlines() if re.search("[\u2801-\u28ff]", line)]
    assert [len(line) for line in drawn] == [90] * 2  # a quiet tone reaches the two rows in the middle

    damage(store, bad)
    code, shown = on_terminal("-m", "musicgen_cli", "list", "--wave")
    assert code == 7
    assert re.search(rf"{good.id[9:]}.*▃{{16}}", shown)
    assert re.search(rf"{bad.id[9:]}.*damaged", shown)
    assert "▃" not in on_terminal("-m", "musicgen_cli", "list")[1]


@pytest.mark.usefixtures("store_path")
def test_a_terminal_shows_lineage_as_a_tree(store: Store) -> None:
    """Each take stands below the one that it was made from; piped, parents come first."""
    parent = put_take(store, "[b]rain[/b]", seed=1)
    child = put_take(store, "storm", seed=2, parent_id=parent.id)
    code, shown = on_terminal("-m", "musicgen_cli", "show", child.id, "--tree")

    assert code == 0
    assert shown.splitlines() == [f"{parent.id[9:]}  0.5 s  [b]rain[/b]", f"└── {child.id[9:]}  0.5 s  storm"]


def test_a_record_says_what_a_take_was_made_from(musicgen: Run, store: Store) -> None:
    """In words after the record, and in a few in the tree."""
    tune = put_take(store, "", seed=1, origin={"kind": "import"})
    member = {"id": tune.id, "content_hash": tune.content_hash, "duration": 0.2, "context_s": 0.2}
    longer = put_take(store, "rain", seed=2, parent_id=tune.id, extra={"continue": member})
    on_tune = put_take(
        store, "storm", seed=3, parent_id=tune.id, extra={"melody": member, "windows": 2, "overlap": 12.0}
    )
    read_less = put_take(store, "hail", seed=4, extra={"continue": member | {"duration": 40.0, "context_s": 12.0}})
    foreign = put_take(store, "snow", seed=5, extra={"continue": "x", "melody": {"id": "\x1b[2J"}, "windows": "many"})

    def told(id_: str) -> list[str]:
        return [line for line in musicgen("show", id_).lines[1:] if not line.startswith(("peak", "rms", "cl", "si"))]

    assert told(longer.id) == [f"goes on from\t{tune.id}, 0.2 s, all of which the model read"]
    assert told(on_tune.id) == [
        f"follows the tune of\t{tune.id}",
        "windows\t2, each but the first with 12 s of the one before",
    ]
    assert told(read_less.id) == [f"goes on from\t{tune.id}, 40 s, of which the model read the last 12 s"]
    assert told(foreign.id) == told(tune.id) == []
    assert len(musicgen("show", longer.id, "--json").lines) == 1
    _, shown = on_terminal("-m", "musicgen_cli", "show", tune.id, "--tree")
    assert [line.partition("  ")[2].rstrip() for line in shown.splitlines()] == [
        "0.5 s, imported",
        "0.5 s, 0.3 s of them new  rain",
        "0.5 s, on a tune  storm",
    ]


def test_a_piped_list_is_not_drawn(musicgen: Run, store: Store) -> None:
    """Without a terminal `--wave` changes nothing, and no audio is read."""
    damage(store, put_take(store))

    assert musicgen("list", "--wave") == musicgen("list")
    assert musicgen("list", "--wave", "--json") == musicgen("list", "--json")


def test_show_of_damaged_audio_is_exit_7(musicgen: Run, store: Store) -> None:
    """The record is printed without levels; with `--json` the audio isn't read."""
    take = put_take(store)
    damage(store, take)
    done = musicgen("show", take.id)

    assert (done.code, len(done.lines)) == (7, 1)
    assert "the audio is not what was stored" in done.err
    assert musicgen("show", take.id, "--json").code == 0


def test_an_ambiguous_prefix_names_the_candidates(musicgen: Run, store: Store) -> None:
    """The exit code is 3."""
    ids = {put_take(store, seed=seed).id for seed in (1, 2)} | {put_take(store, seed=1).id}
    short = next(id_ for id_ in ids if id_.endswith("-2"))[9:15]

    done = musicgen("show", short)

    assert done.code == 3
    assert f"artifact_{short}" in done.err
    assert "-2" in done.err


def test_export_writes_the_stored_bytes(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """It writes to a file, to a generated name in a folder, and to stdout."""
    take = put_take(store, "Calm, ambient piano!", seed=7)
    file = tmp_path / "x.wav"

    assert musicgen("export", "last", "-o", file, "--no-metadata").lines == [str(file)]
    assert file.read_bytes() == fakes.tone(0.5, seed=7)
    done = musicgen("export", "last", "-o", tmp_path)
    assert done.lines == [f"{tmp_path}/calm-ambient-piano-7-{take.id[9:]}.wav"]
    piped = subprocess.run([*MUSICGEN, "export", take.id, "-o", "-"], check=True, capture_output=True)
    assert piped.stdout == fakes.tone(0.5, seed=7)


def test_an_exported_file_has_metadata(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """A WAV on stdout has none, as some readers take everything after the header for samples."""
    take = put_take(store, "Calm piano", seed=7)
    musicgen("export", "last", "-o", tmp_path / "x.wav")

    assert fakes.exported(tmp_path / "x.wav") == store.read_blob(take)
    assert read_info((tmp_path / "x.wav").read_bytes())["INAM"] == "Calm piano"
    musicgen("export", "last", "-o", tmp_path / "l.wav", "--loop")
    assert inspect((tmp_path / "l.wav").read_bytes()).frames == 12_000  # of half a second a quarter is faded
    piped = subprocess.run([*MUSICGEN, "export", "last", "-o", "-", "--loop"], check=True, capture_output=True)
    assert piped.stdout == fakes.exported(tmp_path / "l.wav")


def test_the_format_is_that_of_the_suffix(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """So it is with the suffix of `--name`; `--format` names it too; collisions are numbered, each with its sidecar."""
    pytest.importorskip("soundfile", reason="needs the extra audio")
    put_take(store, "Calm piano", seed=7)

    assert musicgen("export", "last", "-o", tmp_path / "x.flac").code == 0
    assert (tmp_path / "x.flac").read_bytes().startswith(b"fLaC")
    words = ["export", "last", "-o", f"{tmp_path}/many/", "--format", "ogg", "--name", "{prompt_slug}.ogg", "--sidecar"]
    assert [musicgen(*words).code for _ in range(2)] == [0, 0]
    names = sorted(path.name for path in (tmp_path / "many").iterdir())
    assert names == ["calm-piano-2.json", "calm-piano-2.ogg", "calm-piano.json", "calm-piano.ogg"]
    assert (tmp_path / "many" / "calm-piano.ogg").read_bytes().startswith(b"OggS")
    assert musicgen("export", "last", "-o", f"{tmp_path}/named/", "--name", "{seed}.flac").code == 0
    assert (tmp_path / "named" / "7.flac").read_bytes().startswith(b"fLaC")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "opus"], "format must be one of wav, flac, ogg, mp3, got 'opus'"),
        (["-o", "x.m4a"], "no export to '.m4a'"),
        (["-o", "x.mp3", "--format", "wav"], "--format wav contradicts the extension '.mp3'"),
        (["-o", "x/", "--name", "{seed}.mp3", "--format", "wav"], "--format wav contradicts the extension '.mp3'"),
        (["-o", "-", "--format", "flac"], "-o - writes WAV, not flac"),
    ],
)
def test_wrong_formats_are_exit_2(musicgen: Run, store: Store, words: list[str], message: str) -> None:
    """They are refused before anything is written."""
    pytest.importorskip("soundfile", reason="needs the extra audio")
    put_take(store)
    done = musicgen("export", "last", *words)

    assert done.code == 2
    assert message in done.err


def test_without_the_extra_a_format_is_exit_8(
    musicgen: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ffmpeg, too: the message has the command that installs the extra; WAV needs neither."""
    monkeypatch.delitem(sys.modules, "musicgen_cli.audio.encode", raising=False)
    monkeypatch.delattr(audio, "encode", raising=False)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setenv("PATH", "")  # no ffmpeg either
    put_take(store)
    done = musicgen("export", "last", "-o", tmp_path / "x.mp3")

    assert done.code == 8
    assert f"`{install_command('audio')}` installs it" in done.err
    assert musicgen("export", "last", "--loop", "-o", tmp_path / "x.wav").code == 0


def test_export_replaces_files_only_with_force(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """An existing file is exit 1; names in a folder are numbered; two takes never get the same name."""
    put_take(store, "x", seed=1)
    put_take(store, "x", seed=2)
    file = tmp_path / "x.wav"
    file.write_bytes(b"precious")

    assert musicgen("export", "last", "-o", file).code == 1
    assert file.read_bytes() == b"precious"
    for _ in range(2):
        assert musicgen("export", "last", "-o", f"{tmp_path}/n/", "--name", "{prompt_slug}").code == 0
    assert sorted(path.name for path in (tmp_path / "n").iterdir()) == ["x-2.wav", "x.wav"]
    ids = musicgen("list", "-q").lines
    done = musicgen("export", *ids, "-o", f"{tmp_path}/f/", "--name", "{prompt_slug}", "--force")
    assert [Path(line).name for line in done.lines] == ["x.wav", "x-2.wav"]
    assert fakes.exported(tmp_path / "f" / "x.wav") == fakes.tone(0.5, seed=2)


def test_force_replaces_a_link_and_not_its_target(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """The file to which a symbolic link points is not changed."""
    put_take(store)
    canary, link = tmp_path / "canary", tmp_path / "x.wav"
    canary.write_bytes(b"alive")
    link.symlink_to(canary)

    assert musicgen("export", "last", "-o", link).code == 1
    assert musicgen("export", "last", "-o", link, "--force").code == 0
    assert canary.read_bytes() == b"alive"
    assert not link.is_symlink()


def test_a_sidecar_is_the_record(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """It is JSON beside the audio, and replaces an existing file only with `--force`."""
    take = put_take(store, "élan")

    assert musicgen("export", "last", "-o", tmp_path / "x.wav", "--sidecar").code == 0
    record = json.loads((tmp_path / "x.json").read_text())
    assert (record["id"], record["prompt"]) == (take.id, "élan")
    (tmp_path / "y.json").write_text("precious")
    assert musicgen("export", "last", "-o", tmp_path / "y.wav", "--sidecar").code == 1
    assert not (tmp_path / "y.wav").exists()
    assert (tmp_path / "y.json").read_text() == "precious"


def test_damaged_audio_is_never_exported(musicgen: Run, store: Store, tmp_path: Path) -> None:
    """It is exit 7, and no file is written."""
    take = put_take(store)
    blob = store.blob_path(take)
    damage(store, take)

    assert musicgen("export", take.id, "-o", tmp_path / "x.wav").code == 7
    blob.unlink()
    assert musicgen("export", take.id, "-o", tmp_path / "x.wav").code == 7
    assert list(tmp_path.glob("*.wav")) == []


def test_a_damaged_line_hides_only_its_own_take(musicgen: Run, store: Store, store_path: Path) -> None:
    """There is one warning on stderr."""
    ids = [put_take(store, seed=seed).id for seed in range(3)]
    index = store_path / "index.jsonl"
    data = bytearray(index.read_bytes())
    data[data.index(ids[1].encode()) + 200] ^= 1
    index.write_bytes(data)

    done = musicgen("list", "-q")

    assert done.code == 0
    assert done.lines == [ids[2], ids[0]]
    assert done.err.count("\n") == 1
    assert "1 damaged line" in done.err


def test_store_path_and_stats(musicgen: Run, store: Store, store_path: Path) -> None:
    """They print where the store is, and how much is in it."""
    put_take(store, seed=1)
    put_take(store, seed=1)

    assert musicgen("store", "path").out == f"{store_path}\n"
    stats = json.loads(musicgen("store", "stats", "--json").out)
    assert (stats["artifacts"], stats["blobs"], stats["audio_seconds"]) == (2, 1, 1.0)
    assert "artifacts\t2" in musicgen("store", "stats").lines
