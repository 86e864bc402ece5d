"""Commands in an environment that names proxies: what works, and what is said about what doesn't."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from musicgen_cli.errors import StillPendingError
from tests.support.batches import good, serving, takes_in
from tests.support.command_line import Result, Run
from tests.support.hubs import Hub, running_hub
from tests.support.proxies import closed_port, http_proxy, refusal, socks_proxy
from tests.support.waiting import wait_until

URL = "http://gpubox.invalid:2006"
ODD_NO_PROXY = "localhost,::1/128,[::1,a:b:c,%"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, store_path: Path) -> Callable[..., None]:
    """Name a service elsewhere; return a function that sets environment variables."""
    monkeypatch.setenv("MUSICGEN_URL", URL)
    monkeypatch.setenv("MUSICGEN_MAX_WAIT", "0")

    def set_variables(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("one\ntwo\n")
    return path


def ended(musicgen: Run, job: str) -> Result:
    """Wait until a job has ended; return what `job poll` said."""

    def poll() -> Result | None:
        done = musicgen("job", "poll", job, "--timeout-ms", "30000")
        return None if done.code == StillPendingError.exit_code else done

    return wait_until(poll, 90) or pytest.fail("unreachable")


def commands(prompts: Path) -> Iterator[list[object]]:
    """Yield the commands that reach a service or the hub."""
    yield ["generate", "x", "-d", "0.5"]
    yield ["generate", "x", "-d", "0.5", "--json"]
    yield ["generate", "x", "-d", "0.5", "--detach"]
    yield ["batch", prompts, "-d", "0.5"]
    yield ["batch", prompts, "-d", "0.5", "--json"]
    yield ["doctor"]
    yield ["doctor", "--json"]


@pytest.mark.parametrize("value", ["socks://127.0.0.1:1080", "http://[::1", "ftp://proxy:1", "http://proxy:99999"])
def test_a_proxy_that_cant_be_used_is_named_by_every_command(
    musicgen: Run, environment: Callable[..., None], prompts: Path, value: str
) -> None:
    """It is wrong usage; `doctor` finds it."""
    environment(ALL_PROXY=value)
    for words in commands(prompts):
        done = musicgen(*words)
        text = done.out if "doctor" in words else done.err

        assert done.code == (1 if "doctor" in words else 2), (words, text)
        assert f"ALL_PROXY is not the address of a proxy: '{value}'" in text, words
        if words[-1] == "--json" and "doctor" not in words:
            assert json.loads(done.err)["error"]["code"] == "usage"


def test_what_cant_be_read_in_no_proxy_is_left_out_by_every_command(
    musicgen: Run, environment: Callable[..., None], prompts: Path
) -> None:
    """The service is looked for as without it."""
    environment(NO_PROXY=ODD_NO_PROXY)
    for words in commands(prompts):
        done = musicgen(*words)
        if "--detach" in words:
            assert done.code == 0, done.err
            done = ended(musicgen, done.out.strip())
            assert done.code == 1, done.err
        assert "no such host" in done.out + done.err, words


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_leads_to_the_service(
    musicgen: Run, environment: Callable[..., None], prompts: Path, store_path: Path, scheme: str
) -> None:
    """The proxy resolves the name. Background jobs go through it, too."""
    with serving(good) as url, socks_proxy(int(url.rpartition(":")[2])) as proxy:
        environment(ALL_PROXY=f"{scheme}://127.0.0.1:{proxy.port}", NO_PROXY=ODD_NO_PROXY)
        assert musicgen("generate", "x", "-d", "0.5").code == 0
        assert musicgen("batch", prompts, "-d", "0.5").code == 0
        assert f"ok {URL}" in re.sub(r"\s+", " ", musicgen("doctor").out.replace("service", "ok"))
        job = musicgen("generate", "y", "-d", "0.5", "--detach").out.strip()
        done = ended(musicgen, job)

    assert done.code == 0, done.err
    assert len(takes_in(store_path)) == 4
    assert set(proxy.requests) == {"gpubox.invalid:2006"}


@pytest.mark.parametrize(
    ("url", "name", "scheme"),
    [
        (URL, "HTTP_PROXY", "http"),
        (URL, "ALL_PROXY", "socks5"),
        ("https://gpubox.invalid", "HTTPS_PROXY", "http"),
        ("https://gpubox.invalid", "all_proxy", "socks5h"),
    ],
)
def test_a_dead_proxy_is_blamed_and_not_the_service(
    musicgen: Run, environment: Callable[..., None], prompts: Path, url: str, name: str, scheme: str
) -> None:
    """With the variable that names it, and the way past it."""
    proxy = f"{scheme}://127.0.0.1:{closed_port()}"
    environment(**{name: proxy, "MUSICGEN_URL": url})
    for words in (["generate", "x", "-d", "0.5"], ["batch", prompts, "-d", "0.5"]):
        done = musicgen(*words)
        assert done.code == 4, done.err
        assert f"the proxy {proxy} can't be reached: connection refused" in done.err
        assert f"{name} names that proxy; NO_PROXY=gpubox.invalid goes past it" in done.err
        assert "no musicgen service" not in done.err


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout", "407 Who?"])
def test_a_proxy_that_answers_itself_is_named(musicgen: Run, environment: Callable[..., None], status: str) -> None:
    """It can't be told from the service, so both are named; through CONNECT, the proxy alone has answered."""
    with http_proxy(refusal(status)) as proxy:
        environment(ALL_PROXY=f"http://127.0.0.1:{proxy.port}")
        plain = musicgen("generate", "x", "-d", "0.5")
        secure = musicgen("generate", "x", "-d", "0.5", "--url", "https://gpubox.invalid")

    assert plain.code == {"502": 4, "503": 5, "504": 4, "407": 6}[status[:3]]
    assert f"the proxy http://127.0.0.1:{proxy.port}, or the service behind it," in plain.err
    assert status[:3] in plain.err
    assert secure.code == 4
    assert f"the proxy http://127.0.0.1:{proxy.port} can't reach gpubox.invalid: {status}" in secure.err
    for done in (plain, secure):
        assert "hint: ALL_PROXY names that proxy; NO_PROXY=gpubox.invalid goes past it" in done.err


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # httpcore 1.0 leaves that connection to the collector
def test_a_socks_proxy_that_cant_reach_the_service_is_named(musicgen: Run, environment: Callable[..., None]) -> None:
    """What it answered is shown."""
    with socks_proxy(None) as proxy:
        environment(ALL_PROXY=f"socks5://127.0.0.1:{proxy.port}")
        done = musicgen("generate", "x", "-d", "0.5")
    gc.collect()

    assert done.code == 4
    assert f"the proxy socks5://127.0.0.1:{proxy.port} can't reach gpubox.invalid: " in done.err
    assert "nreachable" in done.err


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run an empty hub, which is called by a name that only a proxy knows."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra local")
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    with running_hub(monkeypatch) as running:
        monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
        yield running


def test_the_hub_is_reached_through_a_socks_proxy(musicgen: Run, environment: Callable[..., None], hub: Hub) -> None:
    """The hub's own answer is shown."""
    with socks_proxy(hub.port) as proxy:
        environment(ALL_PROXY=f"socks5://127.0.0.1:{proxy.port}", NO_PROXY=ODD_NO_PROXY)
        done = musicgen("model", "pull", "small")

    assert done.code == 3
    assert "http://hub.invalid has no model 'facebook/musicgen-small'" in done.err
    assert set(proxy.requests) == {"hub.invalid:80"}


def test_a_proxy_that_cant_be_used_is_named_by_a_pull(
    musicgen: Run, environment: Callable[..., None], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong value, a dead proxy, one that answers itself, and certificates that can't be read."""
    environment(ALL_PROXY="socks://127.0.0.1:1080")
    done = musicgen("model", "pull", "small")
    assert (done.code, done.err.splitlines()[0]) == (
        2,
        "error: ALL_PROXY is not the address of a proxy: 'socks://127.0.0.1:1080'",
    )

    dead = f"socks5://127.0.0.1:{closed_port()}"
    environment(ALL_PROXY=dead)
    done = musicgen("model", "pull", "small")
    assert done.code == 4
    assert f"the proxy {dead} can't be reached: connection refused" in done.err
    assert "NO_PROXY=hub.invalid" in done.err

    with http_proxy(refusal("503 Service Unavailable")) as proxy:
        environment(ALL_PROXY=f"http://127.0.0.1:{proxy.port}")
        done = musicgen("model", "pull", "small")
    assert done.code == 6
    assert f"http://hub.invalid, or the proxy http://127.0.0.1:{proxy.port} before it, answered 503" in done.err

    environment(SSL_CERT_FILE="/nowhere/file")
    done = musicgen("model", "pull", "small")
    assert done.code == 2
    assert "SSL_CERT_FILE='/nowhere/file' can't be used" in done.err
