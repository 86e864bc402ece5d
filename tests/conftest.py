"""Fixtures of all tests, among them folders of their own and no settings of this machine; a summary of store tests."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli.settings import NAMES
from tests.support.figures import FIGURES
from tests.support.proxies import VARIABLES as PROXY_VARIABLES

pytest_plugins = ["tests.support.model_fixtures"]

# A shell makes its background jobs ignore SIGINT, which pytest and the programs that it starts would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Of tests that take minutes, and are run only if their marker is asked for.
ASKED_FOR = ("grid", "soak")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [name for name in ASKED_FOR if name not in config.option.markexpr]
    deselected = [item for item in items if any(item.get_closest_marker(name) for name in left_out)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    for name in ("DATA", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    for name in NAMES:
        monkeypatch.delenv(f"MUSICGEN_{name.upper()}", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture(autouse=True, scope="session")
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Share one cache among the tests of a process, so that they build the bundled model's graphs once."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show, for each store test, the sum of its cases' figures and Hypothesis's number of examples."""
    totals: dict[str, Counter[str]] = {}
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if not getattr(report, "nodeid", "").startswith("tests/store/"):
            continue
        test = report.nodeid.split("::")[1].partition("[")[0]
        for name, figures in getattr(report, "user_properties", ()):
            if name == FIGURES and report.when == "call":
                totals.setdefault(test, Counter()).update({"cases": 1} | figures)
        # Hypothesis leaves its statistics there for `--hypothesis-show-statistics`.
        examples = re.findall(r"(\d+) passing", getattr(report, "_hypothesis_stats", ""))
        if examples:
            totals.setdefault(test, Counter())["examples"] += sum(map(int, examples))
    if totals:
        terminalreporter.section("figures of the store's tests")
    for test, total in sorted(totals.items()):
        shown = ", ".join(f"{name} {value:g}" for name, value in total.items() if value)
        terminalreporter.write_line(f"{test.removeprefix('test_').replace('_', ' ')}: {shown}")


@dataclass(frozen=True)
class Result:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def musicgen(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Return a function that runs a command line in this process and captures stdout and stderr."""
    from musicgen_cli.cli.app import run

    def run_words(*words: object) -> Result:
        capfd.readouterr()
        code = run([str(word) for word in words])
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run_words


@pytest.fixture
def service(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    """Start a fake service, and set MUSICGEN_URL to its address."""
    from tests.support import fakes

    httpserver.expect_request("/predict", method="POST").respond_with_handler(fakes.ours)
    monkeypatch.setenv("MUSICGEN_URL", httpserver.url_for("/").rstrip("/"))
    return httpserver


@pytest.fixture
def store_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set MUSICGEN_STORE to a path that doesn't exist yet, with a blank and an accent in it."""
    path = tmp_path / "mein Störe"
    monkeypatch.setenv("MUSICGEN_STORE", str(path))
    return path
