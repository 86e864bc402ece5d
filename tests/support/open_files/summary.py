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


def reports(file: Path) -> list[dict[str, Any]]:
    """Return the reports in a file, which need not exist, without those that are allowed."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if ALLOWED.isdisjoint(line["where"])]


def main() -> None:
    found = Counter(f"{report['action']} in {' < '.join(report['where'])}" for report in reports(Path(sys.argv[1])))
    for text, count in found.most_common():
        sys.stdout.write(f"{count} times: {text}\n")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
