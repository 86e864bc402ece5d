"""No file is renamed, replaced or removed while this process has it open, which Windows would refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.open_files.summary import reports

TOP = Path(__file__).parents[2]
OBSERVER = TOP / "tests" / "support" / "open_files"

RENAMES = """
import os, sys
sys.path.insert(0, sys.argv[1])
from musicgen_cli import atomic
from pathlib import Path
folder = Path(sys.argv[2])
with open(folder / "open", "wb") as file:
    atomic.rename(folder / "open", folder / "renamed")
atomic.rename(folder / "renamed", folder / "again")
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def observed(words: list[str], report: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the observer, which also observes what that starts."""
    environment = os.environ | {"OPEN_FILES_REPORT": str(report), "PYTHONPATH": str(OBSERVER)} | variables
    return subprocess.run([sys.executable, *words], env=environment, cwd=TOP, capture_output=True, text=True)


def test_the_observer_sees_an_open_file(tmp_path: Path) -> None:
    """And only that one."""
    done = observed(["-c", RENAMES, str(TOP), str(tmp_path)], tmp_path / "report")
    assert done.returncode == 0, done.stderr

    (report,) = reports(tmp_path / "report")
    assert (report["action"], report["path"]) == ("rename", str(tmp_path / "open"))


@pytest.mark.grid
@pytest.mark.timeout(3600)
def test_windows_would_refuse_nothing(tmp_path: Path) -> None:
    """The whole suite is run while the observer looks."""
    done = observed(["-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"], tmp_path / "report")
    assert done.returncode == 0, done.stdout[-4000:]

    assert reports(tmp_path / "report") == []
