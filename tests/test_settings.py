from __future__ import annotations

import sys
from pathlib import Path

import pytest

from musicgen_cli import settings
from musicgen_cli.errors import UsageError


@pytest.fixture
def config() -> Path:
    """Return the path of the config file, which doesn't exist yet."""
    file = settings.config_file()
    file.parent.mkdir(parents=True)
    return file


def test_an_option_wins_over_the_environment_over_the_file_over_the_default(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sources` says where each value came from; an empty variable counts as absent."""
    config.write_text('url = "http://file:1"\nmodel = "file"\ncreator = "file"\ntimeout = 5\n')
    monkeypatch.setenv("MUSICGEN_URL", "http://env:1")
    monkeypatch.setenv("MUSICGEN_MODEL", "env")
    monkeypatch.setenv("MUSICGEN_MAX_WAIT", "")

    loaded = settings.load({"url": "http://option:1", "model": None})

    assert (loaded.url, loaded.model, loaded.creator, loaded.timeout) == ("http://option:1", "env", "file", 5.0)
    assert loaded.max_wait == 120
    assert loaded.sources["url"] == "option"
    assert loaded.sources["model"] == "MUSICGEN_MODEL"
    assert loaded.sources["creator"] == str(config)
    assert loaded.sources["max_wait"] == "default"


def test_a_byte_order_mark_is_not_part_of_the_file(config: Path) -> None:
    """Programs on Windows begin a text with one."""
    config.write_bytes(b"\xef\xbb\xbflocal = true\n")

    assert settings.load().local


def test_an_unknown_key_names_the_nearest(config: Path) -> None:
    """A typing error in the config file is an error."""
    config.write_text("timeuot = 5\n")

    with pytest.raises(UsageError, match="timeuot") as caught:
        settings.load()

    assert caught.value.hint == "the nearest known one is 'timeout'"


@pytest.mark.parametrize(
    "text", ["timeout = 'soon'", "timeout = -1", "timeout = nan", "local = 'maybe'", "url = 5", "[url", "creator = ''"]
)
def test_a_value_of_the_wrong_form_is_refused(config: Path, text: str) -> None:
    """The error is one line."""
    config.write_text(text)

    with pytest.raises(UsageError) as caught:
        settings.load()

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "expected"), [("1", True), ("true", True), ("YES", True), ("0", False), ("off", False)]
)
def test_local_is_a_boolean(config: Path, monkeypatch: pytest.MonkeyPatch, word: str, *, expected: bool) -> None:
    """The usual words for true and false are accepted, in any case."""
    monkeypatch.setenv("MUSICGEN_LOCAL", word)

    assert settings.load().local is expected


def test_the_key_is_never_shown(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key is neither in a repr nor in an error."""
    monkeypatch.setenv("MUSICGEN_API_KEY", "s3cret")
    assert "s3cret" not in repr(settings.load())

    monkeypatch.setenv("MUSICGEN_API_KEY", "s3cret\n")
    with pytest.raises(UsageError) as caught:
        settings.load()
    assert "s3cret" not in str(caught.value)


def test_without_a_home_the_store_must_be_named(config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Otherwise a folder called `~` would be made in the current directory."""
    monkeypatch.setenv("MUSICGEN_STORE", "~nobody-of-that-name/music")

    with pytest.raises(UsageError) as caught:
        settings.load()

    assert caught.value.hint == "`--store DIR` or MUSICGEN_STORE names a folder"
    assert settings.load({"store": tmp_path}).store == tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms do so without variables")
def test_config_and_cache_are_never_in_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the platform has one folder for all that, they have one of their own; those of before are still used."""
    for name in ("DATA", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path))
    store, other = tmp_path / "musicgen", tmp_path / "musicgen-cli"
    assert settings.load().store == store
    assert (settings.config_file(), settings.cache_dir()) == (other / "config.toml", other)

    store.mkdir()
    (store / "config.toml").write_text('creator = "before"')
    assert settings.load().creator == "before"
    assert settings.cache_dir() == store

    other.mkdir()
    (other / "config.toml").write_text('creator = "now"')
    assert settings.load().creator == "now"
    assert settings.cache_dir() == other
