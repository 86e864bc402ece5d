"""The way in: `musicgen`, and `python -m musicgen_cli`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        if asked := os.environ.get("_MUSICGEN_COMPLETE"):  # by a completion script: somebody waits for their Tab
            from musicgen_cli.cli.completion.values import answer

            return answer(asked, sys.argv[1:])

        from musicgen_cli.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while the program was still being loaded
        code = 130
    if code == 130:
        # At once: without waiting for threads, and as an exit code even where CPython would rather end itself by the
        # signal (it does once a KeyboardInterrupt has passed through `exec`, which dataclasses use).
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
