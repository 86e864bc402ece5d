"""
Builds the wheels of a release, one for each platform, on one machine.

    pip install build ziglang
    python -m native.wheels [--out dist] [PLATFORM ...]

Zig's C compiler brings the headers and libraries of every platform, so nothing else is needed. The wheel for "any"
platform has no native decoder; pip takes it where none of the others fits.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from native.compile import PLATFORMS

PLATFORM_VARIABLE = "MUSICGEN_BUILD_PLATFORM"  # what hatch_hook.py builds a wheel for: one of PLATFORMS, or ANY
ANY = "any"


def main() -> None:
    parser = argparse.ArgumentParser("python -m native.wheels", description="Build the wheels of a release.")
    parser.add_argument("platforms", nargs="*", default=[*PLATFORMS, ANY], metavar="PLATFORM", help="[all]")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the wheels [dist]")
    options = parser.parse_args()
    if unknown := set(options.platforms) - {*PLATFORMS, ANY}:
        parser.error(f"there is no platform {', '.join(sorted(unknown))}; there are {', '.join([*PLATFORMS, ANY])}")
    root = Path(__file__).parents[1]
    for name in options.platforms:
        environment = {**os.environ, PLATFORM_VARIABLE: name, "CC": f"{sys.executable} -m ziglang cc"}
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(options.out.absolute()), str(root)]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
