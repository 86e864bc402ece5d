from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="needs the extra local")

from musicgen_cli.checkpoint.hub import RETRY_WAITS_S
from musicgen_cli.checkpoint.hub import Hub as HubClient
from musicgen_cli.checkpoint.repository import RemoteFile, Repository
from musicgen_cli.errors import BadAnswerError, ModelAbsentError, MusicgenError, ServiceBusyError, ServiceError
from tests.support.hubs import Hub, running_hub

SIZE, CUT = 300_000, 270_000  # bytes; connections are cut at 90 %
WEIGHTS, INDEX = "model.safetensors", "index.json"  # hashed by SHA-256, and as a Git blob
ATTEMPTS = len(RETRY_WAITS_S) + 1


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Run a hub with one repository of two files."""
    folder = tmp_path / "published"
    folder.mkdir()
    for name in (WEIGHTS, INDEX):
        (folder / name).write_bytes(os.urandom(SIZE))
    with running_hub(monkeypatch) as running:
        running.publish("someone/mine", folder)
        yield running


@dataclass
class Download:
    """A client with a folder to download to, and the progress that it reported."""

    client: HubClient
    repository: Repository
    directory: Path
    received: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def remote(self, name: str = WEIGHTS) -> RemoteFile:
        return self.repository.files[name]

    def fetch(self, name: str = WEIGHTS) -> bytes:
        self.received.clear()
        self.client.fetch(
            self.repository, self.remote(name), self.directory, received=self.received.append, note=self.notes.append
        )
        return (self.directory / name).read_bytes()

    def interrupt(self, hub: Hub) -> Path:
        """Let a download fail at 90 %; return the partial file."""
        hub.cuts[WEIGHTS] = [CUT] * ATTEMPTS
        with pytest.raises(ServiceError, match=r"connection to .* broke"):
            self.fetch()
        hub.cuts.clear()
        hub.transfers.clear()
        return self.remote().partial(self.directory)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def download(hub: Hub, tmp_path: Path) -> Iterator[Download]:
    """Open the hub, and list the repository."""
    directory = tmp_path / "downloads"
    directory.mkdir()
    with HubClient() as client:
        yield Download(client, client.repository("someone/mine", None), directory)


def published(hub: Hub, name: str = WEIGHTS) -> bytes:
    return (hub.folder("someone/mine") / name).read_bytes()


@pytest.mark.parametrize("name", [WEIGHTS, INDEX])
def test_a_download_is_complete_and_its_progress_is_in_bytes(hub: Hub, download: Download, name: str) -> None:
    """Only the file itself is left in the folder."""
    assert download.fetch(name) == published(hub, name)

    assert sum(download.received) == SIZE
    assert download.files() == [name]
    assert download.notes == []


@pytest.mark.parametrize("name", [WEIGHTS, INDEX])
def test_a_cut_connection_is_continued_in_the_same_download(hub: Hub, download: Download, name: str) -> None:
    """Each new request asks only for what is missing, and a note says why there is one."""
    hub.cuts[name] = [100_000, CUT]

    assert download.fetch(name) == published(hub, name)
    assert [(transfer.start, transfer.sent) for transfer in hub.transfers] == [
        (0, 100_000),
        (100_000, CUT - 100_000),
        (CUT, SIZE - CUT),
    ]
    assert sum(download.received) == SIZE
    assert len(download.notes) == 2
    assert "broke" in download.notes[0]
    assert "trying again" in download.notes[0]


def test_an_interrupted_download_is_continued_by_the_next_one(hub: Hub, download: Download) -> None:
    """Only the last 10 % are sent again, and the progress begins with what was there."""
    partial = download.interrupt(hub)
    assert partial.read_bytes() == published(hub)[:CUT]
    assert download.files() == [partial.name]

    assert download.fetch() == published(hub)
    assert [(transfer.start, transfer.sent) for transfer in hub.transfers] == [(CUT, SIZE - CUT)]
    assert download.received[0] == CUT
    assert sum(download.received) == SIZE
    assert download.files() == [WEIGHTS]


def test_a_hub_without_ranges_sends_the_file_again(hub: Hub, download: Download) -> None:
    """The answer 200 replaces what was there, and the progress goes back."""
    download.interrupt(hub)
    hub.without_range = True

    assert download.fetch() == published(hub)
    assert [(transfer.start, transfer.sent) for transfer in hub.transfers] == [(0, SIZE)]
    assert download.received[:2] == [CUT, -CUT]
    assert sum(download.received) == SIZE


def test_a_corrupted_partial_file_is_noticed_and_thrown_away(hub: Hub, download: Download) -> None:
    """One flipped bit in it; the download after that begins at the first byte."""
    partial = download.interrupt(hub)
    content = bytearray(partial.read_bytes())
    content[1234] ^= 1
    partial.write_bytes(content)

    with pytest.raises(BadAnswerError, match="wrong checksum and was deleted"):
        download.fetch()
    assert download.files() == []
    hub.transfers.clear()
    assert download.fetch() == published(hub)
    assert [transfer.start for transfer in hub.transfers] == [0]


@pytest.mark.parametrize("length", [SIZE, SIZE + 1])
def test_a_partial_file_that_is_too_long_or_wrong_is_thrown_away(hub: Hub, download: Download, length: int) -> None:
    """Nothing is requested for it, and it never becomes the file."""
    download.remote().partial(download.directory).write_bytes(bytes(length))

    with pytest.raises(BadAnswerError, match="wrong checksum"):
        download.fetch()
    assert download.files() == []
    assert hub.transfers == []


def test_a_complete_partial_file_needs_no_request(hub: Hub, download: Download) -> None:
    """A process may end between the last byte and the rename."""
    download.remote().partial(download.directory).write_bytes(published(hub))

    assert download.fetch() == published(hub)
    assert hub.transfers == []


def test_another_revision_has_another_partial_file(hub: Hub, download: Download) -> None:
    """The bytes of one are never continued with those of the other."""
    partial = download.interrupt(hub)
    (hub.folder("someone/mine") / WEIGHTS).write_bytes(bytes(SIZE))
    download.repository = download.client.repository("someone/mine", None)

    assert download.remote().partial(download.directory) != partial
    assert download.fetch() == bytes(SIZE)
    assert [transfer.start for transfer in hub.transfers] == [0]


@pytest.mark.parametrize("length", [CUT - 1, CUT, SIZE - 1])
def test_a_file_that_is_shorter_than_listed_is_thrown_away(hub: Hub, download: Download, length: int) -> None:
    """Whether the range that is asked for still exists (206) or not (416)."""
    download.interrupt(hub)
    path = hub.folder("someone/mine") / WEIGHTS
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(BadAnswerError, match="wrong checksum"):
        download.fetch()
    assert download.files() == []


def test_a_file_that_is_longer_than_listed_is_not_read_to_its_end(hub: Hub, download: Download) -> None:
    """A hub can't fill the disk."""
    path = hub.folder("someone/mine") / WEIGHTS
    path.write_bytes(path.read_bytes() + bytes(50_000_000))

    with pytest.raises(BadAnswerError, match="wrong checksum"):
        download.fetch()
    assert SIZE < sum(download.received) < SIZE + 1_000_000
    assert download.files() == []


def test_a_download_gives_up_after_attempts_that_brought_nothing(hub: Hub, download: Download) -> None:
    """As many as there are waits, and one."""
    hub.cuts[WEIGHTS] = [0] * 100

    with pytest.raises(ServiceError) as caught:
        download.fetch()
    assert len(hub.transfers) == ATTEMPTS
    assert len(download.notes) == ATTEMPTS - 1
    assert "again continues the download" in str(caught.value.hint)


def test_bytes_that_came_renew_the_patience(hub: Hub, download: Download) -> None:
    """A download over a bad line takes as many attempts as it needs."""
    hub.cuts[WEIGHTS] = [*([0] * (ATTEMPTS - 1)), *([10] * (ATTEMPTS - 1)), *([20] * (ATTEMPTS - 1))]

    assert download.fetch() == published(hub)
    assert len(hub.transfers) == 3 * (ATTEMPTS - 1) + 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_temporary_status_is_retried(hub: Hub, download: Download, status: int) -> None:
    """The file comes with the next answer."""
    hub.file_status[WEIGHTS] = [status, status]

    assert download.fetch() == published(hub)
    assert len(hub.transfers) == 3


@pytest.mark.parametrize(("status", "error"), [(429, ServiceBusyError), (503, ServiceError)])
def test_a_lasting_status_is_the_error(hub: Hub, download: Download, status: int, error: type[MusicgenError]) -> None:
    """After as many attempts as for a connection that breaks."""
    hub.file_status[WEIGHTS] = [status] * 100

    with pytest.raises(error):
        download.fetch()
    assert len(hub.transfers) == ATTEMPTS


def test_a_small_file_is_read_into_memory_with_the_same_care(hub: Hub, download: Download) -> None:
    """It is continued after a cut, and its hash is checked."""
    hub.cuts[INDEX] = [CUT]
    assert download.client.read(download.repository, download.remote(INDEX), download.notes.append) == published(
        hub, INDEX
    )
    assert [transfer.start for transfer in hub.transfers] == [0, CUT]

    hub.wrong.add(INDEX)
    with pytest.raises(BadAnswerError, match=r"index\.json of someone/mine has a wrong checksum"):
        download.client.read(download.repository, download.remote(INDEX), download.notes.append)


def test_a_download_that_is_cut_at_ten_random_bytes_fetches_each_byte_once(hub: Hub, download: Download) -> None:
    """Each request begins where the connection broke, with a link of its own; the first three have expired."""
    chance = random.Random(3)
    hub.cuts[WEIGHTS] = sorted(chance.sample(range(1, SIZE), 10))
    ends = list(hub.cuts[WEIGHTS])
    hub.expired[WEIGHTS] = 3

    assert download.fetch() == published(hub)
    assert [transfer.start for transfer in hub.transfers] == [0, *ends]
    assert sum(transfer.sent for transfer in hub.transfers) == SIZE
    assert sum(download.received) == SIZE
    assert len(download.notes) == 13


def test_an_expired_link_is_asked_for_again(hub: Hub, download: Download) -> None:
    """The content store answers 403, which says nothing about the model; the download goes on at the byte."""
    hub.cuts[WEIGHTS] = [CUT]
    partial = download.remote().partial(download.directory)
    partial.write_bytes(published(hub)[:1000])
    hub.expired[WEIGHTS] = 2

    assert download.fetch() == published(hub)
    assert [transfer.start for transfer in hub.transfers] == [1000, CUT]
    assert "a download link of someone/mine doesn't work any more (status 403)" in download.notes[0]


def test_links_that_never_work_are_an_error_of_the_service(hub: Hub, download: Download) -> None:
    """Not one of the model, which is public."""
    hub.expired[WEIGHTS] = 100

    with pytest.raises(ServiceError, match="doesn't work any more"):
        download.fetch()
    assert hub.transfers == []


def test_the_token_is_sent_to_the_hub_alone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: Download
) -> None:
    """A link leads to another host, which has a signature instead."""
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: "hf_secret")
    with HubClient() as client:
        Download(client, client.repository("someone/mine", None), download.directory).fetch()

    sent = {
        path.split("/")[1]: "authorization" in headers
        for (_, path), headers in zip(hub.requests, hub.headers, strict=True)
    }
    assert sent == {"api": True, "someone": True, "cdn": False}


def test_a_mirror_that_leads_to_the_hub_is_followed(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers 308 with the hub's own address of a file; sizes and hashes come from there, too."""
    with running_hub(monkeypatch) as mirror:
        mirror.repositories, mirror.lists_only_names = hub.repositories, True
        mirror.mirrored = f"http://localhost:{hub.port}"
        with HubClient() as client:
            repository = client.repository("someone/mine", None)
            files = {name: client.file(repository, name) for name in (WEIGHTS, INDEX)}
            assert [(file.size, file.sha256) for file in files.values()] == [
                (SIZE, download.remote(name).sha256) for name in files
            ]
            hub.cuts[WEIGHTS] = [CUT]
            for file in files.values():
                client.fetch(repository, file, download.directory, received=lambda _: None, note=lambda _: None)

    assert all((download.directory / name).read_bytes() == published(hub, name) for name in files)
    assert mirror.transfers == []


def test_a_renamed_repository_is_followed(hub: Hub, download: Download) -> None:
    """By 307, for its listing and for its files; the new name is known."""
    hub.renamed["someone/former"] = "someone/mine"
    download.repository = download.client.repository("someone/former", None)

    assert (download.repository.id, download.repository.current_id) == ("someone/former", "someone/mine")
    assert download.fetch() == published(hub)
    assert download.fetch(INDEX) == published(hub, INDEX)


def test_a_gated_repository_needs_a_token(hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed without one, but its files are not sent."""
    hub.gated.add("someone/mine")

    with pytest.raises(ModelAbsentError, match="someone/mine is gated") as caught:
        download.fetch()
    assert "accept its terms at" in str(caught.value.hint)
    assert hub.transfers == []


def test_a_large_file_costs_no_memory(hub: Hub, download: Download) -> None:
    """It is written as it comes, and its hash is read from the disk."""
    size = 300_000_000
    with (hub.folder("someone/mine") / WEIGHTS).open("r+b") as file:
        file.truncate(size)
    download.repository = download.client.repository("someone/mine", None)
    tracemalloc.start()
    try:
        download.client.fetch(
            download.repository, download.remote(), download.directory, received=lambda _: None, note=lambda _: None
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (download.directory / WEIGHTS).stat().st_size == size
    assert peak < 20_000_000


def test_a_small_file_that_isnt_small_is_not_read(hub: Hub, download: Download) -> None:
    """What is read into memory has a bound."""
    with (hub.folder("someone/mine") / INDEX).open("r+b") as file:
        file.truncate(20_000_000)
    repository = download.client.repository("someone/mine", None)

    with pytest.raises(BadAnswerError, match="at most 4194304 are read"):
        download.client.read(repository, repository.files[INDEX], download.notes.append)
    assert hub.transfers == []
