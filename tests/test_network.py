"""What the environment says about proxies and certificates, as the clients read it."""

from __future__ import annotations

import httpx
import pytest

from musicgen_cli.errors import UsageError
from musicgen_cli.network import proxy_for, tls_context


def variable_for(url: str) -> str | None:
    proxy = proxy_for(httpx.URL(url))
    return proxy.variable if proxy else None


def test_the_proxy_for_a_scheme_comes_before_that_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a desktop sets for all schemes, and httpx can't read, doesn't matter then."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    monkeypatch.setenv("http_proxy", "proxy:3128")

    assert variable_for("http://gpubox:2006") == "http_proxy"
    with pytest.raises(UsageError, match="ALL_PROXY"):
        variable_for("https://gpubox")


@pytest.mark.parametrize("host", ["localhost", "api.localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_this_machine_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Not even through one that can't be read."""
    monkeypatch.setenv("ALL_PROXY", "junk://")
    assert variable_for(f"http://{host}:2006") is None


@pytest.mark.parametrize(
    "no_proxy",
    [
        "*",
        "gpubox.lan",
        "localhost, GPUBOX.lan",
        "localhost gpubox.lan",
        ".lan",
        "*.lan",
        "lan",
        "gpubox.lan:2006",
        "http://gpubox.lan",
        "::1/128,[::1,a:b:c,%,[],10.0.0.0/99,gpubox.lan",  # what can't be read is left out
    ],
)
def test_a_name_in_no_proxy_needs_no_proxy(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    """With its domains, ports and schemes, in the forms that curl and others take."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)

    assert variable_for("http://gpubox.lan:2006") is None
    if no_proxy != "*":
        assert variable_for("http://example.org:2006") == "ALL_PROXY"


@pytest.mark.parametrize("no_proxy", ["box.lan", "gpubox", "gpubox.lan:80", "10.0.0.0/8", ".", "*.", "2006", "::1/128"])
def test_other_entries_in_no_proxy_dont_concern_a_host(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    """A part of a name, another port, a network."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)

    assert variable_for("http://gpubox.lan:2006") == "ALL_PROXY"


@pytest.mark.parametrize(
    ("no_proxy", "address"),
    [
        ("10.0.0.0/8", "10.1.2.3:2006"),
        ("10.1.2.3", "10.1.2.3:2006"),
        ("10.1.2.3:2006", "10.1.2.3:2006"),
        ("fd00::/8", "[fd00::1]:2006"),
        ("[fd00::1]", "[fd00::1]"),
        ("[fd00::1]:2006", "[fd00::1]:2006"),
        ("fd00:0::1", "[fd00::1]:2006"),
    ],
)
def test_an_address_or_its_network_in_no_proxy_needs_no_proxy(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, address: str
) -> None:
    """However it is written."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)

    assert variable_for(f"http://{address}") is None
    assert variable_for("http://192.0.2.1") == "ALL_PROXY"
    assert variable_for("http://[2001:db8::1]") == "ALL_PROXY"


@pytest.mark.parametrize(
    "address",
    [
        "socks://127.0.0.1:1080",
        "socks4://127.0.0.1:1080",
        "ftp://proxy:21",
        "http://",
        "://",
        "http://[::1",
        "http://proxy:99999",
        "http://proxy:0",
        "http://proxy:port",
        "http://a..b:3128",
        f"http://{'a' * 70}:3128",
        "http://pro\txy:3128",
    ],
)
def test_what_is_no_proxy_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """The value is quoted."""
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(UsageError) as caught:
        variable_for("https://hub.invalid")
    assert str(caught.value) == f"HTTPS_PROXY is not the address of a proxy: {address[:80]!r}"
    assert "socks5://" in (caught.value.hint or "")


def test_a_proxys_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of one that is used nor of one that can't be."""
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@proxy:3128")
    monkeypatch.setenv("HTTPS_PROXY", "socks://me:secret@proxy:1080")

    assert str(proxy_for(httpx.URL("http://gpubox"))) == "the proxy http://proxy:3128"
    with pytest.raises(UsageError) as caught:
        variable_for("https://gpubox")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSLKEYLOGFILE"])
def test_certificates_that_cant_be_read_are_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The variable and its value."""
    monkeypatch.setenv(name, "/nowhere/file")
    with pytest.raises(UsageError, match=f"{name}='/nowhere/file' can't be used: no such file"):
        tls_context()
