"""Ends the time of assets by the rules of the settings: their entries are deleted, and their event is `expired`.

For an asset whose time is over a replay of its newest event is produced, signed, and without the value. It has the
version of that event: so a newer one, wherever it is on its way, supersedes it, and the lane that owns the asset's
partition carries it out in order with everything else (`store.write_plan.is_expiry`). The asset row then says
`expired` of the same version, by which the audit counts the event. A run that is repeated changes nothing; the ingest
plane sends nothing again to a partition whose expiries are not carried out yet.

Left alone are assets whose expiry would be refused: those that an event of a deleted topic made, where the one that
has its name now has not reached their offset, and those in a topic that belongs to another tenant now.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Self

from penstock.assembly import open_store
from penstock.broker import headers as names
from penstock.broker.base import Message, Partition, PartitionLag, Producer
from penstock.broker.producer import MessageProducer
from penstock.broker.replay_keys import ReplayKeys
from penstock.broker.tenant_topics import with_topics
from penstock.broker.tombstones import tombstone
from penstock.config import Settings
from penstock.config.retention import RetentionRule
from penstock.errors import PenstockError
from penstock.ingest.lag import readable_lag
from penstock.records import AssetRow, Modality, Outcome, Position
from penstock.store.base import EntryScan

logger = logging.getLogger(__name__)

SOURCE = "penstock/retention"
_DAY_MS = 86_400_000
_WINDOW = 500  # messages sent and not acknowledged
_CLOSE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules, for assets of the topics of the settings.

    Attributes:
        rules: of which the first that fits an asset decides.
        modality_of: the modality of a topic; None for one whose assets never expire.
        tenant_of: the tenant to whom a topic belongs; None if its events name their own.
    """

    rules: tuple[RetentionRule, ...]
    modality_of: Callable[[str], Modality | None]
    tenant_of: Callable[[str], str | None] = lambda _: None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Returns the rules of the settings, for the topics that they know."""
        return cls(settings.retention.rules, settings.kafka.modality_of, settings.kafka.tenant_of)

    def is_over(self, row: AssetRow, now_ms: int) -> bool:
        """Returns whether the time of an indexed asset is over, and its topic's tenant may end it."""
        modality = self.modality_of(row.asset.topic)
        if row.outcome is not Outcome.INDEXED or modality is None:
            return False
        if self.tenant_of(row.asset.topic) not in (None, row.asset.tenant):
            return False
        for rule in self.rules:
            if rule.tenant in (None, row.asset.tenant) and rule.modality in (None, modality):
                return row.version.timestamp_ms < now_ms - rule.max_age_days * _DAY_MS
        return False

    def latest_ms(self, now_ms: int) -> int:
        """Returns the time before which an asset's newest event is, if any rule may end its time."""
        return round(now_ms - min(rule.max_age_days for rule in self.rules) * _DAY_MS)


@dataclass(slots=True)
class ExpiryTargets:
    """The partitions to which expiries go.

    Attributes:
        log_ends: the offset that the next record of each partition gets.
        busy: those whose last expiries are not carried out yet, and which get no others.
        sent: the offset after the last expiry that was sent to each; written by `expire`.
    """

    log_ends: Mapping[Partition, int]
    busy: Collection[Partition] = ()
    sent: dict[Partition, int] = field(default_factory=dict)

    def accept(self, row: AssetRow) -> bool:
        """Returns whether the expiry of an asset can be sent and carried out now."""
        partition = Partition(row.asset.topic, row.origin.partition)
        return partition not in self.busy and row.origin.offset < self.log_ends.get(partition, 0)

    def note(self, position: Position) -> None:
        """Notes where an expiry was written."""
        partition = Partition(position.topic, position.partition)
        self.sent[partition] = max(position.offset + 1, self.sent.get(partition, 0))


def expire(
    store: EntryScan,
    producer: Producer,
    retention: Retention,
    targets: ExpiryTargets,
    *,
    sign: Callable[[Message], Message],
    now_ms: int,
    dry_run: bool = False,
) -> Mapping[str, int]:
    """Produces an expiry for each asset whose time is over, and returns their number by tenant.

    Raises:
        UnavailableError: the store or the broker does not answer; a repetition continues.
    """
    counts: Counter[str] = Counter()
    unacknowledged: deque[Future[Position]] = deque()
    if not retention.rules:
        return counts
    for row in _old_rows(store, retention.latest_ms(now_ms)):
        if not (retention.is_over(row, now_ms) and targets.accept(row)):
            continue
        counts[row.asset.tenant] += 1
        if dry_run:
            continue
        unacknowledged.append(producer.send(sign(expiry(row, now_ms))))
        while len(unacknowledged) > _WINDOW:
            targets.note(unacknowledged.popleft().result())
    for sent in unacknowledged:
        targets.note(sent.result())
    return counts


def expiry(row: AssetRow, now_ms: int) -> Message:
    """Returns the message that ends the time of the version that a row records, not signed yet."""
    message = tombstone(row.asset, partition=row.origin.partition, source=SOURCE, now_ms=now_ms)
    origin = (
        (names.ORIGIN, names.format_origin(row.origin)),
        (names.ORIGIN_TIMESTAMP, str(row.version.timestamp_ms).encode()),
    )
    return replace(message, headers=(*message.headers, *origin))


def _old_rows(store: EntryScan, before_ms: int) -> Iterable[AssetRow]:
    for page in store.scan_asset_rows(before_ms=before_ms):
        yield from page


def expire_assets(
    settings: Settings, targets: ExpiryTargets | None = None, *, dry_run: bool = False
) -> Mapping[str, int]:
    """Expires assets by the services and the rules of the settings. Raises as `expire`."""
    settings = with_topics(settings)
    targets = targets or ExpiryTargets(_log_ends(_lag(settings)))
    store = open_store(settings.store)
    try:
        producer = MessageProducer(settings.kafka)
        try:
            sign, now_ms = ReplayKeys.of(settings).signed, round(time.time() * 1000)
            return expire(store, producer, Retention.of(settings), targets, sign=sign, now_ms=now_ms, dry_run=dry_run)
        finally:
            producer.close(_CLOSE_TIMEOUT_S)
    finally:
        store.close()


def _lag(settings: Settings) -> Sequence[PartitionLag]:
    return readable_lag(settings.kafka, settings.kafka.topics)()


def _log_ends(lags: Sequence[PartitionLag]) -> Mapping[Partition, int]:
    return {lag.partition: lag.log_end for lag in lags}


class Expirer:
    """Expires assets repeatedly, and sends no expiry again while the lanes have not come to the last one.

    Args:
        read_settings: the present settings, which know the topics that there are.
        lag: the progress of the ingest plane's group in the partitions of the topics of settings.
        expire: expires assets (`expire_assets`).
    """

    def __init__(
        self,
        read_settings: Callable[[], Settings],
        *,
        lag: Callable[[Settings], Sequence[PartitionLag]] = _lag,
        expire: Callable[[Settings, ExpiryTargets], Mapping[str, int]] = expire_assets,
    ) -> None:
        self._read_settings = read_settings
        self._lag = lag
        self._expire = expire
        self._sent: dict[Partition, int] = {}  # the offsets after expiries that are not known to be carried out

    def run(self) -> Mapping[str, int]:
        """Expires assets one time, and returns their number by tenant. Raises as `expire`."""
        settings = self._read_settings()
        lags = self._lag(settings)
        busy = {lag.partition for lag in lags if lag.lag and (lag.committed or 0) < self._sent.get(lag.partition, 0)}
        self._sent = {partition: end for partition, end in self._sent.items() if partition in busy}
        if busy:
            logger.info("retention: expiries in %s are not carried out yet", ", ".join(map(str, sorted(busy))))
        # What was sent before a failure counts as sent as well: the targets write into the same dict.
        return self._expire(settings, ExpiryTargets(_log_ends(lags), busy, self._sent))


def expire_until(stop: threading.Event, read_settings: Callable[[], Settings]) -> None:
    """Expires assets at every interval until `stop` is set; a run that fails is repeated at the next one."""
    expirer = Expirer(read_settings)
    while not stop.wait(read_settings().retention.interval_s):
        try:
            if counts := expirer.run():
                logger.info("the time of %d assets is over: %s", sum(counts.values()), dict(counts))
        except PenstockError as exc:
            logger.warning("retention failed and will be repeated: %s", exc)
        except Exception:  # whatever it is, assets must not stay longer than they may
            logger.exception("retention: unexpected error; it will be repeated")
