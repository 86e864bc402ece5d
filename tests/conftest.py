"""What every test stands on: folders of its own, and no setting of this machine; and in the end what was tried."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli.settings import NAMES
from tests.support.figures import FIGURES

pytest_plugins = ["tests.support.model_fixtures"]

# What a shell starts in the background ignores SIGINT, and so would the programs that are started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    for name in ("DATA", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    for name in NAMES:
        monkeypatch.delenv(f"MUSICGEN_{name.upper()}", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture(autouse=True, scope="session")
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the tests of one process build the bundled model's graphs once."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Add up the figures of each test's cases, and Hypothesis's examples."""
    totals: dict[str, Counter[str]] = {}
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if not getattr(report, "nodeid", "").startswith("tests/store/"):
            continue
        test = report.nodeid.split("::")[1].partition("[")[0]
        for name, figures in getattr(report, "user_properties", ()):
            if name == FIGURES and report.when == "call":
                totals.setdefault(test, Counter()).update({"cases": 1} | figures)
        # Where Hypothesis leaves for its own summary what `--hypothesis-show-statistics` prints.
        examples = re.findall(r"(\d+) passing", getattr(report, "_hypothesis_stats", ""))
        if examples:
            totals.setdefault(test, Counter())["examples"] += sum(map(int, examples))
    if totals:
        terminalreporter.section("what the store's tests tried")
    for test, total in sorted(totals.items()):
        shown = ", ".join(f"{name} {value:g}" for name, value in total.items() if value)
        terminalreporter.write_line(f"{test.removeprefix('test_').replace('_', ' ')}: {shown}")


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def musicgen(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command line in this process, with stdout and stderr apart."""
    from musicgen_cli.cli.app import run

    def run_words(*words: object) -> Result:
        capfd.readouterr()
        code = run([str(word) for word in words])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run_words


@pytest.fixture
def service(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    """Start a service that answers as ours does, named by MUSICGEN_URL."""
    from tests.support import fakes

    httpserver.expect_request("/predict", method="POST").respond_with_handler(fakes.ours)
    monkeypatch.setenv("MUSICGEN_URL", httpserver.url_for("/").rstrip("/"))
    return httpserver


@pytest.fixture
def store_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a store that isn't there yet, on a path with a blank and an accent."""
    path = tmp_path / "mein Störe"
    monkeypatch.setenv("MUSICGEN_STORE", str(path))
    return path
