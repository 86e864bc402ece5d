"""Who shares places, and who sees whose progress: by key, address and network."""

from __future__ import annotations

import httpx
import pytest

from musicgen_cli.service.callers import Caller, network
from tests.support.fake_engine import FakeEngine
from tests.support.services import FakeService, StartService
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_a_network_of_ipv6_is_one_client(address: str, owner: str) -> None:
    """Whoever has one address of it has all of them; of IPv4 each address is one."""
    assert network(address) == owner


def test_several_keys_are_clients_whatever_their_addresses() -> None:
    """Callers with the same key share places; without several keys, addresses do."""
    assert Caller("10.0.0.1", 1).client == Caller("10.0.0.2", 1).client != Caller("10.0.0.1", 2).client
    assert Caller("10.0.0.1").client != Caller("10.0.0.2").client


def client_of(service: FakeService, address: str, key: str) -> httpx.Client:
    transport = httpx.HTTPTransport(local_address=address)
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=service.url, transport=transport, headers=headers, timeout=20)


def test_progress_belongs_to_key_and_address(start: StartService, engine: FakeEngine) -> None:
    """Another client neither reads it nor hides it by a request with the same id."""
    service = start(engine, api_keys=["one", "two"])
    callers = [("127.0.0.1", "one"), ("127.0.0.1", "two"), ("127.0.0.2", "one")]
    for address, key in callers:
        with client_of(service, address, key) as client:
            assert client.get("/progress/same").status_code == 404
            client.post("/predict", json={"duration": 0.5, "client_job_id": "same"})
        engine.failure = RuntimeError("the jobs of the other callers fail")

    states = []
    for address, key in callers:
        with client_of(service, address, key) as client:
            states.append(client.get("/progress/same").json()["state"])
    assert states == ["done", "failed", "failed"]


def test_each_key_of_several_is_accepted(start: StartService) -> None:
    """And none that is a part of one, or all of them."""
    service = start(api_keys=["one", "two"])
    for key, status in (("one", 200), ("two", 200), ("on", 403), ("one two", 403), ("one,two", 403)):
        with client_of(service, "127.0.0.1", key) as client:
            assert client.post("/predict", json={"duration": 0.5}).status_code == status


def test_the_number_of_the_key_is_logged(start: StartService, capfd: pytest.CaptureFixture[str]) -> None:
    """Not the key: so it is seen which client causes the load."""
    from musicgen_cli.service.log import to_stderr

    with to_stderr():
        service = start(api_keys=["first-secret", "second-secret"])
        with client_of(service, "127.0.0.1", "second-secret") as client:
            client.post("/predict", json={"duration": 0.5})
        line = wait_until(lambda: capfd.readouterr().err)
    assert " key=2" in line
    assert "secret" not in line
