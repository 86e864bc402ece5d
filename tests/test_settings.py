from __future__ import annotations

from pathlib import Path

import pytest

from musicgen_cli import settings
from musicgen_cli.errors import UsageError


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Name a config file that isn't there yet."""
    file = tmp_path / "config.toml"
    monkeypatch.setattr(settings, "config_file", lambda: file)
    for name in settings.NAMES:
        monkeypatch.delenv(f"MUSICGEN_{name.upper()}", raising=False)
    return file


def test_an_option_wins_over_the_environment_over_the_file_over_the_default(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value is told with where it came from."""
    config.write_text('url = "http://file:1"\nmodel = "file"\ncreator = "file"\ntimeout = 5\n')
    monkeypatch.setenv("MUSICGEN_URL", "http://env:1")
    monkeypatch.setenv("MUSICGEN_MODEL", "env")
    monkeypatch.setenv("MUSICGEN_MAX_WAIT", "")

    chosen = settings.load({"url": "http://option:1", "model": None})

    assert (chosen.url, chosen.model, chosen.creator, chosen.timeout) == ("http://option:1", "env", "file", 5.0)
    assert chosen.max_wait == 120
    assert chosen.sources["url"] == "option"
    assert chosen.sources["model"] == "MUSICGEN_MODEL"
    assert chosen.sources["creator"] == str(config)
    assert chosen.sources["max_wait"] == "default"


def test_an_unknown_key_names_the_nearest(config: Path) -> None:
    """A typing error in the file doesn't go unseen."""
    config.write_text("timeuot = 5\n")

    with pytest.raises(UsageError, match="timeuot") as caught:
        settings.load()

    assert caught.value.hint == "the nearest known one is 'timeout'"


@pytest.mark.parametrize(
    "text", ["timeout = 'soon'", "timeout = -1", "timeout = nan", "local = 'maybe'", "url = 5", "[url", "creator = ''"]
)
def test_a_value_of_the_wrong_form_is_refused(config: Path, text: str) -> None:
    """It is exit 2, and one line."""
    config.write_text(text)

    with pytest.raises(UsageError) as caught:
        settings.load()

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("word", "meant"), [("1", True), ("true", True), ("YES", True), ("0", False), ("off", False)])
def test_local_is_a_switch(config: Path, monkeypatch: pytest.MonkeyPatch, word: str, meant: bool) -> None:
    """The usual words for yes and no are understood."""
    monkeypatch.setenv("MUSICGEN_LOCAL", word)

    assert settings.load().local is meant


def test_the_key_is_never_shown(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a repr nor in an error."""
    monkeypatch.setenv("MUSICGEN_API_KEY", "s3cret")
    assert "s3cret" not in repr(settings.load())

    monkeypatch.setenv("MUSICGEN_API_KEY", "s3cret\n")
    with pytest.raises(UsageError) as caught:
        settings.load()
    assert "s3cret" not in str(caught.value)


def test_without_a_home_the_store_must_be_named(config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder called `~` is never made in the current directory."""
    monkeypatch.setenv("MUSICGEN_STORE", "~nobody-of-that-name/music")

    with pytest.raises(UsageError) as caught:
        settings.load()

    assert caught.value.hint == "name a folder with `--store DIR`"
    assert settings.load({"store": tmp_path}).store == tmp_path
