"""Erases a tenant, or its assets of one key: entries, media, thumbnails, dead letters and watches.

Entries are deleted as a producer would delete them: by tombstones, which the ingest plane carries out in order with
everything else. So no lane is raced, caches and watches learn of it, and the audit balances: each event is superseded
by the tombstone of its asset, each tombstone is `deleted`, and an event that was dead-lettered still has its dead
letter, of which only origin, reason and times are left.

    1 wait     until the group has committed what the topics hold now, so that every event has its row or dead letter
    2 select   the asset rows, the media that they refer to, dead letters and watches
    3 note     the media in the asset store: once the rows are gone, nothing else would name them
    4 delete   tombstones, each to the partition of the event that its row stands for; wait until they are committed;
               then what people chose of these assets
    5 purge    dead letters, then watches
    6 remove   the media, unless another row or dead letter refers to them
    7 count    what is left, and remove the note if that is nothing

It may end anywhere: a repetition deletes what is left, by the same steps.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from penstock.assets import AssetStore, MediaPurge, purge_media, sha256_of
from penstock.broker.base import DeadLetter, Message, Partition, PartitionLag, Producer
from penstock.broker.letter_purge import LetterPurger, LetterSelection
from penstock.broker.tombstones import key_bytes, tombstone
from penstock.errors import UnavailableError
from penstock.ingest.deadletters.resolution import Resolver
from penstock.records import AssetRow, Outcome, Position, Watch
from penstock.records.events import digest_of
from penstock.store.base import EntryScan

SOURCE = "penstock/purge"
_TENANT_HEADER = "ce_tenant"
_WINDOW = 1_000  # tombstones sent and not acknowledged
_POLL_S = 0.5  # between two reads of the group's committed offsets


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    """Names what is erased, and how.

    Attributes:
        tenant: of the assets.
        key: of the assets, in all topics; None: all assets of the tenant, and its watches.
        dry_run: whether it only counts.
        unnamed: whether also dead letters go that name no tenant, as they cannot be parsed.
        wait_s: the longest wait for the ingest plane, each time.
    """

    tenant: str
    key: str | None = None
    dry_run: bool = False
    unnamed: bool = False
    wait_s: float = 300.0


@dataclass(frozen=True, slots=True)
class PurgeReceipt:
    """The counts of a purge.

    Attributes:
        tenant, key, dry_run: as requested.
        assets: that were deleted.
        entries: of them.
        dead_letters: whose contents were removed.
        unnamed: dead letters that name no tenant, and stay unless they were requested, too.
        watches: that were deleted.
        choices: that were forgotten.
        media: that were removed; those that others refer to and those that were put during the purge stay.
        left: assets that are still indexed.
    """

    tenant: str
    key: str | None
    dry_run: bool
    assets: int
    entries: int
    dead_letters: int
    unnamed: int
    watches: int
    media: MediaPurge
    left: int
    choices: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left that a repetition would remove."""
        return not self.left and not self.media.young


@dataclass(slots=True)
class _Selected:
    assets: int = 0
    entries: int = 0
    media: set[str] = field(default_factory=set)
    letters: LetterSelection = field(default_factory=LetterSelection)
    unnamed: int = 0
    watches: list[Watch] = field(default_factory=list)
    choices: int = 0


class Purger:
    """Erases, from one thread.

    Args:
        store: the index, of which no second version may exist.
        assets: the media.
        resolver: parses dead letters.
        letters: purges dead letters.
        read_letters: reads all present dead letters.
        read_watches: reads all present watches.
        delete_watch: returns the message that deletes a watch.
        producer: of the media topics and of the watches.
        lag: the partitions of the media topics, with the committed offsets of the ingest plane's group.
        forget: removes the choices of a tenant, or of its assets of one key, and returns how many there were.
        show: receives the present activity, how much of it is done, and the total, for a progress bar.
        clock, now_s, sleep: monotonic seconds, seconds since the epoch, and a wait of a number of them.
    """

    def __init__(
        self,
        *,
        store: EntryScan,
        assets: AssetStore,
        resolver: Resolver,
        letters: LetterPurger,
        read_letters: Callable[[], Iterable[DeadLetter]],
        read_watches: Callable[[], Iterable[Watch]],
        delete_watch: Callable[[Watch], Message],
        producer: Producer,
        lag: Callable[[], Sequence[PartitionLag]],
        forget: Callable[[str, str | None], int] = lambda tenant, key: 0,
        show: Callable[[str, int, int | None], None],
        clock: Callable[[], float],
        now_s: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._store = store
        self._assets = assets
        self._resolver = resolver
        self._letters = letters
        self._read_letters = read_letters
        self._read_watches = read_watches
        self._delete_watch = delete_watch
        self._producer = producer
        self._lag = lag
        self._forget = forget
        self._show = show
        self._clock = clock
        self._now_s = now_s
        self._sleep = sleep

    def purge(self, request: PurgeRequest) -> PurgeReceipt:
        """Carries out the steps at the head of this file.

        Raises:
            UnavailableError: a service does not answer, or the ingest plane does not commit in time. What was done
                stays done; a repetition continues.
            ConfigError: a right is missing.
        """
        began_s = self._now_s()
        if not request.dry_run:
            self._wait({lag.partition: lag.log_end for lag in self._lag()}, request.wait_s)  # 1
        selected = self._select(request)  # 2
        if request.dry_run:
            return self._receipt(request, selected, self._remove(selected.media, began_s, dry_run=True))
        note = f"purge-{digest_of(request.tenant, *(() if request.key is None else (request.key,)))}.json"
        self._remember(note, selected.media)  # 3
        self._delete(request)  # 4
        selected.choices = self._forget(request.tenant, request.key)
        self._letters.purge(selected.letters)  # 5
        for watch in selected.watches:
            self._producer.send(self._delete_watch(watch)).result()
        receipt = self._receipt(request, selected, self._remove(selected.media, began_s))  # 6
        if receipt.is_complete:  # 7
            self._assets.drop_note(note)
        return receipt

    # --- 1 wait -----------------------------------------------------------------------------------------------------

    def _wait(self, ends: Mapping[Partition, int], wait_s: float) -> None:
        deadline_s = self._clock() + wait_s
        while True:
            behind = [lag for lag in self._lag() if lag.lag and (lag.committed or 0) < ends.get(lag.partition, 0)]
            self._show("settled", len(ends) - len(behind), len(ends))
            if not behind:
                return
            if self._clock() >= deadline_s:
                raise UnavailableError(
                    f"the ingest plane has not settled {behind[0].partition} within {wait_s:g} s: it is at offset "
                    f"{behind[0].committed or 0} of {ends[behind[0].partition]}. Does it run? Events of other tenants "
                    "count, too, also those that wait for a quota: raise that one in [quota.tenants], or --timeout. "
                    "Run the same purge again."
                )
            self._sleep(_POLL_S)

    # --- 2 select, 3 note -------------------------------------------------------------------------------------------

    def _select(self, request: PurgeRequest) -> _Selected:
        selected = _Selected()
        for row in self._present(request):
            selected.assets += 1
            selected.entries += sum(row.counts.values())
        for page in self._store.scan_media(tenant=request.tenant, key=request.key):
            selected.media.update(_hashes(page))
        selected.letters = self._letters.select(lambda letter: self._is_owned(letter, request, selected))
        selected.media.update(_hashes(selected.letters.uris))
        if request.key is None:
            selected.watches = [watch for watch in self._read_watches() if watch.tenant == request.tenant]
        return selected

    def _present(self, request: PurgeRequest) -> Iterator[AssetRow]:
        for page in self._store.scan_asset_rows(tenant=request.tenant, key=request.key):
            yield from (row for row in page if row.outcome is Outcome.INDEXED)

    def _is_owned(self, letter: DeadLetter, request: PurgeRequest, selected: _Selected) -> bool:
        """Returns whether a dead letter is of the tenant and key: by its event, or by its headers if it has none."""
        event = self._resolver.event(letter)
        if event is not None:
            return event.asset.tenant == request.tenant and request.key in (None, event.asset.key)
        named = next((value for name, value in letter.headers if name == _TENANT_HEADER), None)
        if named is None:
            selected.unnamed += 1
            return request.unnamed and (request.key is None or letter.key == key_bytes(request.key))
        of_tenant = named == request.tenant.encode()
        return of_tenant and (request.key is None or letter.key == key_bytes(request.key))

    def _remember(self, note: str, media: set[str]) -> None:
        """Writes the media down, with those that an earlier purge of the same has left, and adds these."""
        media.update(json.loads(self._assets.note(note) or b"[]"))
        self._assets.put_note(note, json.dumps(sorted(media)).encode())

    # --- 4 delete ---------------------------------------------------------------------------------------------------

    def _delete(self, request: PurgeRequest) -> None:
        unacknowledged: deque[Future[Position]] = deque()
        ends: dict[Partition, int] = {}
        now_ms = round(self._now_s() * 1000)

        def acknowledge() -> None:
            position = unacknowledged.popleft().result()
            partition = Partition(position.topic, position.partition)
            ends[partition] = max(position.offset + 1, ends.get(partition, 0))

        for number, row in enumerate(self._present(request), 1):
            message = tombstone(row.asset, partition=row.origin.partition, source=SOURCE, now_ms=now_ms)
            unacknowledged.append(self._producer.send(message))
            while len(unacknowledged) > _WINDOW:
                acknowledge()
            self._show("deleted", number, None)
        while unacknowledged:
            acknowledge()
        self._wait(ends, request.wait_s)

    # --- 6 remove, 7 count ------------------------------------------------------------------------------------------

    def _remove(self, media: set[str], began_s: float, *, dry_run: bool = False) -> MediaPurge:
        """Removes media that were put before step 1 began: events that put them had settled when the rows are read."""
        if not media:
            return MediaPurge()
        if dry_run:  # their rows are still there, and would count as references
            return purge_media(self._assets, media, (), youngest_s=began_s, dry_run=True)
        uris = (uri for page in self._store.scan_media() for uri in page)
        offloaded = (letter.offloaded_uri or "" for letter in self._read_letters())
        referenced = (sha256 for uris in (uris, offloaded) for sha256 in _hashes(uris))
        return purge_media(self._assets, media, referenced, youngest_s=began_s)

    def _receipt(self, request: PurgeRequest, selected: _Selected, media: MediaPurge) -> PurgeReceipt:
        return PurgeReceipt(
            tenant=request.tenant,
            key=request.key,
            dry_run=request.dry_run,
            assets=selected.assets,
            entries=selected.entries,
            dead_letters=selected.letters.count,
            unnamed=0 if request.unnamed else selected.unnamed,
            watches=len(selected.watches),
            media=media,
            left=0 if request.dry_run else sum(1 for _ in self._present(request)),
            choices=selected.choices,
        )


def _hashes(uris: Iterable[str]) -> Iterator[str]:
    return (sha256 for uri in uris if (sha256 := sha256_of(uri)) is not None)
