"""
Settings, collected from command-line options, the environment, the config file and the defaults.

The first of these that has a value wins: an option, the variable `MUSICGEN_<NAME>`, `config.toml` in the platform's
user config directory, the default. An empty variable counts as absent.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicgen_cli import foreign, limits
from musicgen_cli.errors import InvalidValueError, UsageError
from musicgen_cli.text import nearest, undecoded

NAMES = ("url", "store", "model", "local", "creator", "timeout", "max_wait", "api_key", "export_dir")
_CONFIG_BYTES = 1 << 20
LABEL_CHARS = 128  # of a creator's or a variation set's name

NO_HOME = Path(os.devnull)  # where the user's folders would be if there were a home directory

KEY_FILE_BYTES = 64 * 1024

_NAME_STORE = "`--store DIR` or MUSICGEN_STORE names a folder"
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force; `sources` says where each value came from."""

    url: str
    store_folder: Path | None  # None: there is no home directory, and no folder was named
    model: str
    local: bool
    creator: str
    timeout: float  # s, the deadline of one HTTP request
    max_wait: float  # s, how long to wait for a busy service, in all
    api_key: str | None = field(repr=False)
    export_dir: Path | None  # where the MCP server may write files
    sources: Mapping[str, str]

    @property
    def store(self) -> Path:
        """
        The store's folder.

        Raises:
            UsageError: There is no home directory for it, and none was named.
        """
        if self.store_folder is None:
            raise UsageError("there is no home directory for the store", hint=_NAME_STORE)
        return self.store_folder


def load(options: Mapping[str, object] | None = None) -> Settings:
    """
    Collect the settings.

    Args:
        options: Values of command-line options by name; None stands for an option that is absent.

    Raises:
        UsageError: A value has the wrong form, the config file can't be read, or it has an unknown key. No home
            directory is no error here, as not every command needs one.
    """
    options = options or {}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    file, path = _config()
    for name in NAMES:
        variable = f"MUSICGEN_{name.upper()}"
        if options.get(name) is not None:
            value, source = options[name], "option"
        elif os.environ.get(variable):
            value, source = os.environ[variable], variable
        elif name in file:
            value, source = file[name], str(path)
        else:
            value, source = _default(name), "default"
        values[name] = _checked(name, value, source)
        sources[name] = source
    return Settings(store_folder=values.pop("store"), **values, sources=sources)


def truth(text: str) -> bool | None:
    """Return what a word such as `yes` or `0` says, None if it is no such word."""
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def label(name: str, value: object, suffix: str = "") -> str:
    """
    Check a creator's or a variation set's name.

    Args:
        suffix: The end of the message, such as where the value comes from.

    Raises:
        InvalidValueError: It is no text, is empty or longer than 128 characters, has control characters, or begins or
            ends with white space.
    """
    if not isinstance(value, str):
        raise InvalidValueError(f"{name} must be text, got {value!r:.40}{suffix}")
    if problem := undecoded(value):
        raise InvalidValueError(f"{name} {problem}{suffix}")
    if not value or len(value) > LABEL_CHARS or not value.isprintable() or value != value.strip():
        raise InvalidValueError(f"{name} must be 1-{LABEL_CHARS} printable characters, got {value[:40]!r}{suffix}")
    return value


def read_keys(path: Path) -> list[str]:
    """
    Read the API keys of a service from a file: one a line; empty lines and those that begin with # don't count.

    Raises:
        UsageError: The file can't be read, is too large, or holds no key.
        InvalidValueError: A line is no key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(KEY_FILE_BYTES + 1)
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is not UTF-8"
        raise UsageError(f"can't read the API keys in {path}: {reason}") from err
    if len(data) > KEY_FILE_BYTES:
        raise UsageError(f"{path} is too large for a file of API keys: more than {KEY_FILE_BYTES} bytes")
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise UsageError(f"{path} holds no API key", hint="write one key a line")
    return [_checked("api_key", key, str(path)) for key in keys]


def config_file() -> Path:
    """Return the path of the config file, which need not exist."""
    return _beside_the_store("config", "config.toml")


def cache_dir() -> Path:
    """Return the folder for files that can be made again, such as graphs."""
    return _beside_the_store("cache")


def state_dir() -> Path:
    """Return the folder for jobs and logs."""
    return _users("state", "musicgen-cli")


def models_dir() -> Path:
    """Return the folder of models, which is never inside the store."""
    return _users("data", "musicgen-cli") / "models"


def _beside_the_store(kind: str, name: str = "") -> Path:
    """
    Return the user's folder of a kind, or the path of a name in it.

    On Linux it is called `musicgen`, as the store is. On Windows and macOS that would be the store's own folder, or lie
    in it. So it is `musicgen-cli` there, unless only the other one exists, which earlier versions used.
    """
    old = _users(kind, "musicgen") / name
    if not old.is_relative_to(_users("data", "musicgen")):
        return old
    new = _users(kind, "musicgen-cli") / name
    return old if os.path.exists(old) and not os.path.exists(new) else new  # noqa: PTH110  # it never raises


def _users(kind: str, app: str) -> Path:
    """
    Return the platform's folder of a kind for one user's files.

    Without a home directory it is a path below a device: nothing is there, and nothing can be made there, not even by
    root. So reading finds nothing, and writing fails with a message of the part that needs the folder.
    """
    import platformdirs

    try:
        path = getattr(platformdirs, f"user_{kind}_dir")(app, appauthor=False)
    except RuntimeError:  # no home directory; older versions return a path that starts with "~"
        path = "~"
    return NO_HOME / app if path.startswith("~") else Path(path)


def _default(name: str) -> object:
    if name == "store":
        folder = _users("data", "musicgen")
        return None if folder.is_relative_to(NO_HOME) else folder
    return {
        "url": limits.DEFAULT_URL,
        "model": "auto",
        "local": False,
        "creator": limits.CREATOR,
        "timeout": limits.TIMEOUT_S,
        "max_wait": limits.MAX_WAIT_S,
        "api_key": None,
        "export_dir": None,
    }[name]


def _config() -> tuple[dict[str, Any], Path]:
    path = config_file()
    try:
        text = foreign.read(path, _CONFIG_BYTES).decode("utf-8-sig")  # Windows programs begin a file with a BOM
    except (FileNotFoundError, NotADirectoryError):
        return {}, path
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is not UTF-8"
        raise UsageError(f"can't read {path}: {reason}") from err
    import tomllib

    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as err:  # a ValueError for a number of thousands of digits, too
        raise UsageError(f"{path} is not TOML: {err}") from err
    for key in values:
        if key not in NAMES:
            raise UsageError(f"unknown setting {key[:80]!r} in {path}", hint=nearest(key, NAMES))
    return values, path


def _checked(name: str, value: Any, source: str) -> Any:
    suffix = "" if source == "option" else f" ({source})"
    if name in {"timeout", "max_wait"}:
        number = _number(value)
        if number is None or number < 0 or (name == "timeout" and number == 0):
            least = "more than 0" if name == "timeout" else "0 or more"
            raise InvalidValueError(f"{name} must be {least} seconds, got {value!r:.80}{suffix}")
        return number
    if name == "local":
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and (answer := truth(value)) is not None:
            return answer
        raise InvalidValueError(f"local must be true or false, got {value!r:.80}{suffix}")
    if value is None and name in {"api_key", "export_dir", "store"}:
        return None
    if not isinstance(value, str | Path) or not str(value):
        raise InvalidValueError(f"{name} must be text, got {value!r:.80}{suffix}")
    if name in {"store", "export_dir"}:
        return _folder(Path(value), name)
    if name == "creator":
        return label("creator", str(value), suffix)
    if name == "api_key" and not (str(value).isascii() and str(value).isprintable() and " " not in str(value)):
        raise InvalidValueError(f"api_key must be printable ASCII without spaces{suffix}")  # never shown
    return str(value)


def _folder(path: Path, name: str) -> Path:
    # Without a home directory, platformdirs returns a path that starts with "~", which would be a relative path.
    try:
        resolved = path.expanduser()
    except RuntimeError:
        resolved = path
    if resolved.parts[:1] and resolved.parts[0].startswith("~"):
        raise UsageError(
            f"there is no home directory, so {str(path)!r} can't be resolved",
            hint=_NAME_STORE if name == "store" else "give an absolute path",
        )
    return Path(os.path.abspath(resolved))  # noqa: PTH100  # Path.absolute keeps "..", resolve follows links


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
