"""
Shows what Windows would have refused: the reports that sitecustomize.py left in a file.

    python -m tests.support.open_files.summary FILE     exit 1 if there are any
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

# Where Windows does it otherwise: elsewhere, a lock's file is removed while it is open, as the next holder relies on.
ALLOWED = {"store/lock.py:locked"}

# Tests that hold a file open themselves, in place of another process, for which Windows' `replace` waits a second.
OTHER_PROCESSES = {"test_a_reader_keeps_the_file_it_opened"}


def reports(file: Path) -> list[dict[str, Any]]:
    """Return the reports in a file, which need not exist, without those that are allowed."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [
        line
        for line in lines
        if ALLOWED.isdisjoint(line["where"]) and not any(name in line["test"] for name in OTHER_PROCESSES)
    ]


def main() -> None:
    found = Counter(
        f"{report['action']} in {' < '.join(report['where'])} ({report['test']})"
        for report in reports(Path(sys.argv[1]))
    )
    for text, count in found.most_common():
        sys.stdout.write(f"{count} times: {text}\n")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
