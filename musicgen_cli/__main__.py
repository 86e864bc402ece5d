"""The entry point of `musicgen` and of `python -m musicgen_cli`."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from io import TextIOWrapper


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # not None, and not another program's replacement
            # What the terminal's encoding lacks is shown as an escape: a prompt may hold any character.
            stream.reconfigure(errors="backslashreplace")
            if sys.platform == "win32" and not stream.isatty():
                # Files and pipes would get the code page of old programs, which lacks `→`, and their line ends.
                encoding = None if "PYTHONIOENCODING" in os.environ else "utf-8"
                stream.reconfigure(encoding=encoding, newline="\n")
    try:
        if kinds := os.environ.get("_MUSICGEN_COMPLETE"):  # a completion script must be answered quickly
            from musicgen_cli.cli.completion.values import answer

            return answer(kinds, sys.argv[1:])

        # What is loaded here lives until the end, so the garbage collector need not look through it, neither while it
        # is loaded nor at the end: that is a sixth of the time of a short command (benchmarks/startup.py).
        gc.disable()
        from musicgen_cli.cli.app import flush_output, run

        gc.freeze()
        gc.enable()
        code = run(sys.argv[1:])
        code = flush_output() or code
    except KeyboardInterrupt:  # Ctrl-C while the program was still being loaded
        code = 130
    if code == 130:
        # End at once: without waiting for threads, and with this exit code. CPython would end itself by the signal
        # instead, once a KeyboardInterrupt has passed through `exec`, which dataclasses use.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
