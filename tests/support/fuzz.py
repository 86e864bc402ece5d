"""
Feeds mutated files to what reads them: `python -m tests.support.fuzz TARGET SEED COUNT FOLDER`.

Every target has a sound file and a function that reads one as a command does. It may return, or raise a
`MusicgenError`; anything else is a bug. The n-th input of a seed is always the same. Before it is read it is written to
`FOLDER/input`, so that it can be seen whatever happens then.
"""

from __future__ import annotations

import base64
import faulthandler
import io
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgen_cli.errors import MusicgenError
from tests.support.index_lines import draft, head, put, sealed, sound, tag

CASE_S = 30  # for one input, which takes a few milliseconds, on a slow machine

_NANO = Path(__file__).parents[2] / "musicgen_cli" / "models" / "nano"
_MAP = base64.b64encode((1024).to_bytes(4, "little") + bytes(1024) + b"abc\0").decode()  # it maps nothing
_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 0.0, 1.5, -0.0, 2**31, 2**53, 2**63, 2**64, 10**400, -(10**400), 1e308, 5e-324),
    *("", "x", "F32", "\0", "\ud800", "é" * 300, "../../etc/passwd", "/dev/zero", "9" * 5000, "(a+)+$", "1e999"),
    *([], {}, [0], [[]], {"": {}}, [0] * 20_000, [1, 2], [2**63, 2**63], {"type": "Replace"}, {"type": "Sequence"}),
]  # fmt: skip
_BYTES = [
    *(b"\0", b"\n", b'"', b"{", b"[", b"}", b"\xff", b"\xed\xa0\x80", b"1e999", b"NaN", b"-Infinity", b"\t"),
    *(b"[" * 3000, b'{"a":' * 3000, b"0" * 5000, b"\0" * 5000, b"\n" * 5000, b"\xff" * 4, b"\x7f", b",", b"LIST"),
    b"---\n",
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A kind of file: a sound one, whether it is JSON, and what reads it from a folder."""

    sample: Callable[[], bytes]
    is_json: bool
    read: Callable[[Path, bytes], object]


def mutated(sample: bytes, rng: random.Random, *, is_json: bool) -> bytes:
    """Return a sample with one to four changes: of its values where it is JSON, else, or now and then, of its bytes."""
    if is_json and rng.random() < 0.75:
        value = json.loads(sample)
        for _ in range(rng.randint(1, 4)):
            value = _changed_value(value, rng)
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(20_000)  # of what is read, json must find out itself that it is too deep
        text = json.dumps(value)
        sys.setrecursionlimit(limit)
        return text.replace('"1e999"', "1e999").encode() if rng.random() < 0.5 else text.encode()
    data = bytearray(sample)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] = rng.randrange(256)
            case 1:
                data[at:at] = rng.choice(_BYTES)
            case 2:
                del data[at : at + rng.choice((1, 8, 1000))]
            case 3:
                data[at:at] = data[at : at + rng.choice((8, 200, 5000))]
            case _:
                piece = rng.choice(_BYTES)
                data[at : at + len(piece)] = piece
    return bytes(data)


def _changed_value(value: Any, rng: random.Random) -> Any:
    """Return a JSON value in which one value, mostly a deep one, is another, absent, doubled or nested."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice([*value])
        match rng.randrange(12):
            case 0:
                return {name: each for name, each in value.items() if name != key}
            case 1:
                return value | {rng.choice(["", "x" * 300, "__metadata__", "../x", f"{key}2"]): value[key]}
            case _:
                return value | {key: _changed_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value[:at] + [value[at]] * rng.choice((2, 1000)) + value[at + 1 :]
        return [*value[:at], _changed_value(value[at], rng), *value[at + 1 :]]
    if rng.random() < 0.1:
        for _ in range(rng.choice((10, 150, 900))):
            value = [value] if rng.random() < 0.5 else {"type": "Sequence", "normalizers": [value]}
        return value
    return rng.choice(_VALUES)


def _config(folder: Path, data: bytes) -> None:
    from musicgen_cli.checkpoint.checkpoint import open_checkpoint
    from musicgen_cli.checkpoint.shape import Shape

    (folder / "config.json").write_bytes(data)
    checkpoint = open_checkpoint("x", folder)
    shape = Shape.of(checkpoint.config)
    assert shape.codec.receptive_radius >= 0
    _ = (shape.codec.hop, shape.codec.top_filters, shape.decoder.head_width)


def _safetensors(folder: Path, data: bytes) -> None:
    from musicgen_cli.checkpoint.safetensors_file import safetensors
    from musicgen_cli.checkpoint.tensors import Tensors

    header, _, values = data.partition(b"\nVALUES\n")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values)
    tensors = Tensors(safetensors(folder / "model.safetensors"))
    tensors.float32_bytes("a", "b", "")
    for name, shape in tensors.shapes.items():
        try:
            tensors.read(name, *shape)
        except MusicgenError:
            continue


def _header() -> bytes:
    entries = {
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
        "c": {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]},
        "d": {"dtype": "F16", "shape": [], "data_offsets": [32, 34]},
        "__metadata__": {"format": "pt"},
    }
    return json.dumps(entries).encode()


def _with_values(folder: Path, data: bytes) -> None:
    _safetensors(folder, data + b"\nVALUES\n" + bytes(34))


def _tokenizer(folder: Path, data: bytes) -> None:
    from musicgen_cli.engine.tokenizer import explained, load_tokenizer

    path = folder / "tokenizer.json"
    path.write_bytes(data)
    tokenizer = load_tokenizer(path)
    with explained(path):
        tokenizer.encode("calm  piano in a minor, é 日本 \u202e a\x00b " * 40)


def small_tokenizer() -> bytes:
    tokenizer = json.loads((_NANO / "tokenizer.json").read_bytes())
    t5 = {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": _MAP},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
                {"type": "Strip", "strip_left": False, "strip_right": True},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
            ],
        },
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁a", -1.0], ["▁piano", -2.0]],
            "byte_fallback": False,
        },
    }
    return json.dumps(tokenizer | t5).encode()


def _manifest(folder: Path, data: bytes) -> None:
    from musicgen_cli.checkpoint.manifest import read_manifest, size_and_sha256

    (folder / "manifest.json").write_bytes(data)
    manifest = read_manifest(folder)
    assert manifest is not None
    for name in manifest.files:
        try:
            size_and_sha256(folder / name)
        except OSError:
            continue


def _sound_manifest() -> bytes:
    record = {
        "format": 1, "source": "a/b", "revision": None, "license": "MIT", "checkpoint": "0" * 64,
        "weights_kept": False, "files": {"config.json": {"bytes": 3, "sha256": "1" * 64}}, "tensors": {"a": [2, 2]},
        "fidelity": {"int8": 0.01},
    }  # fmt: skip
    return json.dumps(record).encode()


def _card(folder: Path, data: bytes) -> None:
    from musicgen_cli.checkpoint.model_card import license_of

    (folder / "README.md").write_bytes(data)
    license_of(folder / "README.md")


def _index(folder: Path, data: bytes) -> None:
    """Read, check, show and import a store of which one line is the mutated one, with and without a right checksum."""
    from musicgen_cli.actions.gallery.gallery import check
    from musicgen_cli.actions.library.import_ import Importer
    from musicgen_cli.cli.forms import as_json, take_fields, take_object
    from musicgen_cli.store import Store
    from musicgen_cli.store.check import check as check_store
    from musicgen_cli.text import clock, size

    root = folder / "store"
    root.mkdir(0o700, exist_ok=True)
    lines = [head(), put("artifact_00000000000b"), data + b"\n", tag("artifact_00000000000b", add=("a",))]
    with suppress(ValueError, RecursionError, AttributeError, TypeError):
        lines[2] = sealed(json.loads(data))
    (root / "index.jsonl").write_bytes(b"".join(lines))
    store = Store(root, warn=lambda _: None)
    takes = list(store.newest(None))
    store.stats()
    list(check_store(root))
    for take in takes:
        as_json(take_object(take), None)
        _ = (take_fields(take), clock(take.duration), size(take.bytes), f"{take.duration:g}")
    check(folder / "gallery", takes, embed=False, force=False)
    own = Store(folder / "own", warn=lambda _: None)
    list(Importer(own, creator="me", warn=lambda _: None).run([root]))


def _sidecar(folder: Path, data: bytes) -> None:
    from musicgen_cli.actions.library.import_ import Importer
    from musicgen_cli.store import Store

    (folder / "a.wav").write_bytes(sound())
    (folder / "a.json").write_bytes(data)
    shutil.rmtree(folder / "own", ignore_errors=True)
    store = Store(folder / "own", warn=lambda _: None)
    list(Importer(store, creator="me", warn=lambda _: None).run([folder / "a.wav"]))
    assert len(list(store.newest(None))) == 1


def _record() -> bytes:
    line = json.loads(put(parent_id=None, seed=7, elapsed_s=0.5, requested_duration=1.0, extra={"a": [1]}))
    del line["crc"]
    return json.dumps(line).encode()


def _batch(folder: Path, data: bytes) -> None:
    from musicgen_cli.actions.batch.checked_row import CheckedRow
    from musicgen_cli.actions.batch.rows import read_rows
    from musicgen_cli.actions.batch.sweep import Sweep
    from musicgen_cli.actions.source_finder import SourceFinder
    from musicgen_cli.store import Store

    finder = SourceFinder(Store(folder / "store"), creator="nobody")
    for _, row in read_rows(io.BytesIO(data), name="rows.jsonl"):
        if not isinstance(row, MusicgenError):
            try:
                CheckedRow.check(row, Sweep(), finder)
            except MusicgenError:
                continue


def _rows() -> bytes:
    row = {"prompt": "calm", "duration": 1.0, "seed": 7, "tags": ["a"], "variations": 2, "output": "a.wav", "top_k": 5}
    return json.dumps(row).encode()


def _wav(folder: Path, data: bytes) -> None:
    from musicgen_cli.actions.library.import_ import Importer
    from musicgen_cli.audio import wav
    from musicgen_cli.audio.waveform import peaks
    from musicgen_cli.store import Store

    (folder / "a.wav").write_bytes(data)
    wav.read_info(data)
    wav.without_last_info(data)
    for result in Importer(Store(folder / "own"), creator="me", warn=lambda _: None).run([folder / "a.wav"]):
        str(result)
    info = wav.inspect(data)
    wav.samples(data, info)
    wav.is_silent(data, info)
    peaks(data, 32)


def _sound_with_metadata() -> bytes:
    from musicgen_cli.audio.wav import with_info

    return with_info(sound(), {"INAM": "a title", "ICMT": _record().decode()})


def _settings(folder: Path, data: bytes) -> None:
    import os

    from musicgen_cli import settings

    os.environ["XDG_CONFIG_HOME"] = str(folder)
    (folder / "musicgen").mkdir(exist_ok=True)
    (folder / "musicgen" / "config.toml").write_bytes(data)
    settings.load()


def _job(folder: Path, data: bytes) -> None:
    from musicgen_cli.actions.jobs.job_files import JobFiles
    from musicgen_cli.cli.forms import as_json
    from musicgen_cli.cli.job_view import as_object

    jobs = folder / "jobs" / "0123456789abcdef"
    jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    (jobs / "01234567-89ab-4cde-8f01-23456789abcd.json").write_bytes(data)
    for job in JobFiles(jobs).read():
        as_json(as_object(job), None)
        _ = (job.prompt, job.outcome, job.explanation, job.has_ended)


def _sound_job() -> bytes:
    from musicgen_cli.actions.engines import EngineConfig
    from musicgen_cli.actions.generate import planned_take
    from musicgen_cli.actions.jobs.job import new_job, to_record
    from musicgen_cli.contract import GenerateRequest

    made = draft()
    request = GenerateRequest.checked({"prompt": "calm", "client_job_id": "01234567-89ab-4cde-8f01-23456789abcd"})
    planned = planned_take(request, tags=made.tags, creator="me")
    config = EngineConfig(local=False, url="http://127.0.0.1:2006", timeout=60, max_wait=5)
    return json.dumps(to_record(new_job(planned, config, place=1).running(1))).encode()


TARGETS = {
    "config": Target(lambda: (_NANO / "config.json").read_bytes(), True, _config),
    "safetensors": Target(_header, True, _with_values),
    "tokenizer": Target(small_tokenizer, True, _tokenizer),
    "manifest": Target(_sound_manifest, True, _manifest),
    "card": Target(lambda: b"---\nlicense: mit\ntags:\n- music\n---\n# A model\n", False, _card),
    "index": Target(_record, True, _index),
    "sidecar": Target(_record, True, _sidecar),
    "batch": Target(_rows, True, _batch),
    "wav": Target(_sound_with_metadata, False, _wav),
    "settings": Target(lambda: b'url = "http://127.0.0.1:2006"\ntimeout = 60\nlocal = true\n', False, _settings),
    "job": Target(_sound_job, True, _job),
}


def inputs(target: Target, seed: str, count: int) -> Iterator[bytes]:
    """Yield the mutated files of a seed."""
    sample = target.sample()
    for i in range(count):
        yield mutated(sample, random.Random(f"{seed} {i}"), is_json=target.is_json)


def main(name: str, seed: str, count: int, folder: Path) -> None:
    """Read the inputs of a seed; stop at the first that does harm."""
    target = TARGETS[name]
    (folder / "model.safetensors").write_bytes(b"")
    accepted = 0
    for data in inputs(target, seed, count):
        (folder / "input").write_bytes(data)
        faulthandler.dump_traceback_later(CASE_S, exit=True)
        try:
            target.read(folder, data)
            accepted += 1
        except MusicgenError as err:
            text = str(err)
            assert text, "there is no message"
            assert "\n" not in text, f"more than one line: {text!r}"
            assert len(text) < 2000, f"a long message: {text[:100]!r}"
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(f"{accepted} of {count} were read\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
