"""The forms in which records are printed: compact JSON, tab-separated fields, names with values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from musicgen_cli.text import escaped_json, is_encodable, number

if TYPE_CHECKING:
    from musicgen_cli.errors import MusicgenError
    from musicgen_cli.store import Artifact


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested mappings to names such as `origin.model`; lists are joined, and None is left out."""
    pairs: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            pairs |= {f"{name}.{inner}": inner_value for inner, inner_value in flat(value).items()}
        elif value is not None:
            pairs[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return pairs


def as_json(value: Mapping[str, Any], stream: TextIO | None) -> str:
    r"""
    Write a mapping as compact JSON that is safe on a terminal.

    Args:
        stream: Where it will be printed; if its encoding lacks a character, all that are not ASCII become `\u` escapes.
    """
    import json  # takes a tenth of the start-up time of commands that don't need it

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if stream is not None and not is_encodable(escaped_json(text), stream.encoding):
        text = json.dumps(value, separators=(",", ":"))
    return escaped_json(text)


def take_object(artifact: Artifact) -> dict[str, Any]:
    """Return the fields that the service's tool result has, and the whole record."""
    return {
        "status": "success",
        "artifact_id": artifact.id,
        "output_hash": artifact.content_hash,
        **({"name": artifact.name} if artifact.name else {}),
        **artifact.record,
    }


def take_fields(artifact: Artifact) -> tuple[str, ...]:
    """Return the columns of a take's tab-separated line."""
    return (
        artifact.id,
        artifact.created,
        number(artifact.duration),
        "" if artifact.seed is None else str(artifact.seed),
        str(artifact.origin.get("model") or ""),
        ",".join(artifact.tags),
        artifact.prompt or artifact.name or "",
    )


def error_object(err: MusicgenError) -> dict[str, Any]:
    """Return the object that `--json` prints for a failure."""
    return {"code": err.code, "message": str(err), "hint": err.hint, "exit_code": err.exit_code}
