from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from musicgen_cli.errors import DamagedError, NewerStoreError, NotFoundError
from musicgen_cli.store import Store
from musicgen_cli.store.check import check
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.maintenance import compact, gc, repair
from tests.support.index_lines import (
    FLAWED_INDEXES,
    WriteIndex,
    draft,
    head,
    name,
    put,
    sealed,
    sound,
)
from tests.support.store_files import contents, make_old

A = name(0xA)

Maintenance = Callable[[Path], object]


@pytest.mark.parametrize("action", [compact, gc, repair])
def test_maintenance_makes_no_store(root: Path, action: Maintenance) -> None:
    """Where there is no store, there is nothing to do."""
    action(root)

    assert not root.exists()


@pytest.mark.parametrize("flaw", FLAWED_INDEXES)
def test_an_index_with_problems_is_refused_by_compaction_and_gc(index: WriteIndex, root: Path, flaw: str) -> None:
    """Nothing is changed before it has been repaired."""
    index(*FLAWED_INDEXES[flaw])
    (root / "lock").touch()
    make_old(root)
    before = contents(root)

    for refused_action in (lambda: compact(root), lambda: compact(root, forget=True), lambda: gc(root, yes=True)):
        with pytest.raises(DamagedError, match="nothing was changed") as caught:
            refused_action()
        assert "musicgen store repair" in (caught.value.hint or "")

    assert {k: v[2] for k, v in contents(root).items()} == {k: v[2] for k, v in before.items()}
    repair(root)
    compact(root)
    gc(root, yes=True)


@pytest.mark.parametrize("action", [compact, lambda root: gc(root, yes=True), repair, lambda root: list(check(root))])
def test_a_line_of_a_newer_version_stops_all_maintenance(index: WriteIndex, root: Path, action: Maintenance) -> None:
    """Only a newer version can rewrite it."""
    path = index(head(), put(A), sealed({"op": "link"}))
    before = path.read_bytes()

    with pytest.raises(NewerStoreError):
        action(root)

    assert path.read_bytes() == before


@pytest.mark.parametrize("flaw", FLAWED_INDEXES)
def test_dry_runs_change_nothing(store: Store, index: WriteIndex, root: Path, flaw: str) -> None:
    """Their results are those of the real runs."""
    take = store.put(sound(), draft())
    index(*FLAWED_INDEXES[flaw])
    path = store.blob_path(take)
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    make_old(root)
    (root / "lock").unlink()
    before = contents(root)

    predicted = repair(root, adopt=True, dry_run=True)
    with pytest.raises(DamagedError):
        compact(root, dry_run=True)
    with pytest.raises(DamagedError):
        gc(root)

    assert contents(root) == before
    actual = repair(root, adopt=True)
    assert (predicted.done, actual.done) == (False, True)
    assert asdict(predicted) | {"done": True} == asdict(actual)
    before = contents(root)
    predicted_compaction = compact(root, dry_run=True)
    gc(root)
    assert contents(root) == before
    assert predicted_compaction.kept_bytes == compact(root).kept_bytes


class Machine(RuleBasedStateMachine):
    """A store and a dictionary: after any edits and any maintenance, both have the same takes."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "store"
        self.store = Store(self.root, warn=lambda _: None)
        self.live: dict[str, tuple[bytes, str, tuple[str, ...]]] = {}  # audio, prompt, tags by id
        self.removed: dict[str, tuple[bytes, str, tuple[str, ...]]] = {}
        self.torn = False

    @rule(seed=st.integers(0, 3), prompt=st.text(st.characters(codec="utf-8"), max_size=5))
    def put(self, seed: int, prompt: str) -> None:
        take = self.store.put(sound(seed), draft(prompt))
        assert take.id not in self.live.keys() | self.removed.keys()
        self.live[take.id] = (sound(seed), prompt, take.tags)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), add=st.sets(st.sampled_from("ab")), rm=st.sets(st.sampled_from(["b", "c", "type:audio"])))
    def tag(self, data: st.DataObject, add: set[str], rm: set[str]) -> None:
        each = data.draw(st.sampled_from([*self.live]))
        (take,) = self.store.tag([each], add=sorted(add), rm=sorted(rm))
        wav, prompt, tags = self.live[each]
        remaining = [tag for tag in tags if tag not in rm]
        added = [tag for tag in sorted(add) if tag not in remaining]
        self.live[each] = (wav, prompt, (*remaining, *added))
        assert take.tags == self.live[each][2]

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from([*self.live]))
        self.store.remove([each])
        self.removed[each] = self.live.pop(each)

    @precondition(lambda self: self.removed)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from([*self.removed]))
        wav = self.removed[each][0]
        digest = Digest.of(wav).hex
        if (self.root / "blobs" / digest[:2] / f"{digest}.wav").exists():
            self.store.restore(each)
            self.live[each] = self.removed.pop(each)
        else:
            with pytest.raises(DamagedError):
                self.store.restore(each)

    @rule(forget=st.booleans(), dry_run=st.booleans())
    def compact(self, forget: bool, dry_run: bool) -> None:
        if self.torn:
            with pytest.raises(DamagedError):
                compact(self.root, forget=forget, dry_run=dry_run)
            return
        compact(self.root, forget=forget, dry_run=dry_run)
        if not dry_run:
            for each in self.removed:
                with pytest.raises(NotFoundError):
                    self.store.restore(each)
            self.removed.clear()
            assert not (forget and (self.root / "index.jsonl.old").exists())

    @rule()
    def gc(self) -> None:
        make_old(self.root)
        if self.torn:
            with pytest.raises(DamagedError):
                gc(self.root, yes=True)
            return
        gc(self.root, yes=True)
        remaining = {path.stem for path in self.root.rglob("*.wav")}
        assert remaining == {Digest.of(wav).hex for wav, _, _ in self.live.values()}

    @precondition(lambda self: self.live)
    @rule(size=st.integers(1, 60))
    def tear(self, size: int) -> None:
        with (self.root / "index.jsonl").open("ab") as file:
            file.write(put(name(0xF))[:size])
        self.torn = True

    @rule(adopt=st.booleans())
    def repair(self, adopt: bool) -> None:
        mentioned = {Digest.of(wav).hex for wav, _, _ in [*self.live.values(), *self.removed.values()]}
        unmentioned = {path.stem for path in self.root.glob("blobs/*/*.wav")} - mentioned
        result = repair(self.root, adopt=adopt)
        assert result.missing == 0
        assert result.index_rewritten == self.torn
        assert result.adopted == (len(unmentioned) if adopt else 0)
        for take in reversed(list(self.store.newest(result.adopted))):
            self.live[take.id] = (self.store.read_blob(take), "", ("recovered",))
        if self.torn:
            self.removed.clear()
        self.torn = False

    @rule()
    def reopen(self) -> None:
        self.store = Store(self.root, warn=lambda _: None)

    @invariant()
    def store_and_model_agree(self) -> None:
        listed = [(take.id, (self.store.read_blob(take), take.prompt, take.tags)) for take in self.store.newest(None)]
        assert listed == [*reversed(self.live.items())]
        (self.root / "lock").unlink(missing_ok=True)  # testing the lock starts a process each time
        problems = [problem.kind for problem in check(self.root, full=True)]
        assert bool(problems) == self.torn
        assert set(problems) <= {"tail", "line"}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestAStoreAgainstAModel = Machine.TestCase
TestAStoreAgainstAModel.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow]
)
