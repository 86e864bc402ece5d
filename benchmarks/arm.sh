#!/usr/bin/env bash
# Runs the program for arm64 under qemu-user, on Debian 12 for x86-64, as root: installs it from wheels, compares what it
# generates with what this machine generates, and runs the tests of the store.
#
#   [PYTHON=.venv-dev/bin/python] benchmarks/arm.sh [FOLDER]     a new temporary folder by default; 3 GB, half an hour
#
# The registration of qemu as the interpreter of arm64 programs is in a namespace of this script, and ends with it.
set -euo pipefail

python=${PYTHON:-python3} # of an environment with the extra dev
top=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
if [ -z "${ARM_FOLDER:-}" ]; then # this machine's part
  folder=${1:-$(mktemp -d)}
  mkdir -p "$folder"
  export ARM_FOLDER=$(realpath "$folder")
  export PYTHON=$python
  exec unshare --user --map-root-user --mount "$0"
fi
cd "$ARM_FOLDER"
root=$ARM_FOLDER/root
say() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

say "qemu 10 (7.2 crashes when it imports onnxruntime), and Python for arm64"
mkdir -p apt/lists apt/cache/archives/partial root
cat >apt/sources.list <<'END'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-backports main
END
cat >apt/conf <<END
Dir::Etc::sourcelist "$ARM_FOLDER/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$ARM_FOLDER/apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$ARM_FOLDER/apt/cache";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Debug::NoLocking "true";
END
export APT_CONFIG=$ARM_FOLDER/apt/conf
if [ ! -e root/usr/bin/python3.11 ]; then
  apt-get update -qq
  (cd apt && apt-get download -qq qemu-user/bookworm-backports && dpkg-deb -x qemu-user_*.deb qemu)
  apt-get -qq install -y --no-install-recommends --download-only -o APT::Architecture=arm64 -o APT::Architectures::=arm64 \
    python3:arm64 python3-venv:arm64 bash:arm64 coreutils:arm64 libstdc++6:arm64 >/dev/null
  for name in bin sbin lib; do
    mkdir -p "root/usr/$name"
    ln -sfn "usr/$name" "root/$name"
  done
  for package in apt/cache/archives/*_arm64.deb apt/cache/archives/*_all.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --no-same-owner -C root
  done
fi
mkdir -p root/proc root/dev root/tmp root/work binfmt
mount --rbind /dev root/dev
mount -t tmpfs none root/tmp
mount --rbind /proc root/proc
mount -t binfmt_misc none binfmt
qemu=$ARM_FOLDER/apt/qemu/usr/bin/qemu-aarch64
printf '%s' ":arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:$qemu:F" >binfmt/register
arm() { chroot "$root" /usr/bin/env -i PATH=/usr/bin HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 "$@"; }
arm uname -m

say "the wheel with the native decoder, the wheels that it needs, and an installation of them"
if [ ! -e root/work/wheels ]; then
  (cd "$top" && $python -m native.wheels linux-arm64 --out "$ARM_FOLDER/built") >/dev/null
  $python -m pip download -q -d wheels --only-binary :all: --python-version 3.11 \
    --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 \
    "$(echo "$ARM_FOLDER"/built/*.whl)[local]" pytest pytest-timeout pytest-httpserver hypothesis safetensors
  mv wheels root/work/wheels
fi
arm python3 -m venv --clear /work/venv
arm /work/venv/bin/pip install -q --no-index --find-links /work/wheels \
  'musicgen-cli[local]' pytest pytest-timeout pytest-httpserver hypothesis safetensors
arm /work/venv/bin/musicgen doctor

say "the same takes here and there: samples that differ, and by how much"
generate() { # FILE ENGINE PRECISION HOW, after the words that start the program
  local file=$1 engine=$2 precision=$3 how=$4
  shift 4
  MUSICGEN_STORE=/tmp/arm-store "$@" generate --local "calm ambient piano" -d 4 --seed 7 "--$how" -q \
    --engine "$engine" --precision "$precision" -o "$file" --force >/dev/null
}
mkdir -p root/work/takes
for engine in onnx:fp32 onnx:int8 native:int8; do
  for how in sample greedy; do
    name=${engine%:*}-${engine#*:}-$how.wav
    generate "root/work/takes/x86-$name" "${engine%:*}" "${engine#*:}" "$how" $python -m musicgen_cli
    generate "/work/takes/arm-$name" "${engine%:*}" "${engine#*:}" "$how" arm /work/venv/bin/musicgen
    $python - "$name" root/work/takes <<'END'
import sys
from pathlib import Path
import numpy as np
name, folder = sys.argv[1], Path(sys.argv[2])
here, there = (np.frombuffer((folder / f"{machine}-{name}").read_bytes()[44:44 + 2 * 128_000], "<i2").astype(int)
               for machine in ("x86", "arm"))
difference = np.abs(here - there)
first = int(np.argmax(difference > 1)) if difference.max() > 1 else None
print(f"{name:24} {np.count_nonzero(difference):7} of {len(here)} samples differ, at most by {difference.max()}"
      + (f"; first by more than 1: sample {first}" if first is not None else ""), flush=True)
END
  done
done

say "the store's tests"
tar -C "$top" -c tests pyproject.toml musicgen_cli docs | tar -x -C root/work
rm -r root/work/musicgen_cli  # the installed one is tested
# Four tests become another user, and root is the only one in this namespace.
others='wrong_owner_is_found or without_write_permission or store_of_another_user or store_that_cannot_be_made'
arm bash -c "cd /work && venv/bin/pytest -q -p no:cacheprovider --timeout 1800 -k 'not ($others)' \
  tests/store tests/test_atomic.py"
say "done"
