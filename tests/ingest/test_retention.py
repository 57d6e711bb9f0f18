"""Assets expire by rules, through a lane over a broker and a store in memory: the audit counts them, newer versions
stay, and nothing that is repeated or arrives late changes that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.broker.base import Message, Partition
from penstock.config import Settings, load_settings
from penstock.config.retention import RetentionRule
from penstock.ingest.retention import Expirer, ExpiryTargets, Retention, expire, expiry
from penstock.records import AssetRef, AssetRow, Collection, Modality, Outcome, Version
from tests.ingest.builders import TOPIC
from tests.ingest.lane.harness import GROUP, running
from tests.ingest.test_purge import ErasablePlant
from tests.replays import KEYS
from tests.store.scans import all_asset_rows

DAY_MS = 86_400_000
NOW_MS = 100 * DAY_MS


def rule(days: float, **conditions: Any) -> RetentionRule:
    return RetentionRule(max_age_days=days, **conditions)


class AgeingPlant(ErasablePlant):
    """A plant whose events have ages."""

    def aged(self, tenant: str, key: str, days: float, value: bytes | None = b"v", partition: int = 0) -> None:
        headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", b"1"),
            ("ce_source", b"test"),
            ("ce_type", b"t"),
            ("ce_tenant", tenant.encode()),
        )
        stamp_ms = round(NOW_MS - days * DAY_MS)
        self.broker.append(Message(TOPIC, key.encode(), value, headers, stamp_ms, partition))

    def expire(self, *rules: RetentionRule, **options: Any) -> Mapping[str, int]:
        retention = Retention(rules, {TOPIC: Modality.TEXT}.get)
        return self.carry_out(retention, ExpiryTargets(self.log_ends()), **options)

    def carry_out(self, retention: Retention, targets: ExpiryTargets, **options: Any) -> Mapping[str, int]:
        options = {"sign": KEYS.signed, "now_ms": NOW_MS, **options}
        return expire(self.store, self.broker.producer(), retention, targets, **options)

    def log_ends(self) -> Mapping[Partition, int]:
        return {partition: log.end for partition, log in self.reader.bounds([TOPIC]).items()}

    def expirer(self, read_settings: Callable[[], Settings]) -> Expirer:
        return Expirer(
            read_settings,
            lag=lambda _: self.reader.lag([TOPIC]),
            expire=lambda settings, targets: self.carry_out(Retention.of(settings), targets),
        )

    def outcomes(self) -> dict[str, Outcome]:
        return {row.asset.key: row.outcome for row in all_asset_rows(self.store)}

    def row(self, key: str) -> AssetRow:
        (row,) = (row for row in all_asset_rows(self.store) if row.asset.key == key)
        return row


@pytest.fixture
def plant(tmp_path: Path) -> AgeingPlant:
    plant = AgeingPlant(tmp_path / "assets")
    plant.aged("acme", "old", 40, b"parts:3")
    plant.aged("acme", "young", 10)
    plant.aged("other", "theirs", 40)
    return plant


def test_assets_over_their_age_expire_and_the_audit_counts_them(plant: AgeingPlant) -> None:
    with running(plant.started()):
        plant.settled()
        assert plant.expire(rule(30, tenant="acme")) == {"acme": 1}
        plant.settled()
        assert plant.outcomes() == {"old": Outcome.EXPIRED, "young": Outcome.INDEXED, "theirs": Outcome.INDEXED}
        assert plant.owners() == {("acme", "young"): 1, ("other", "theirs"): 1}
        assert plant.expire(rule(30, tenant="acme")) == {}
    report = plant.audit()
    assert (report.indexed, report.expired, report.deleted, report.balanced) == (2, 1, 0, True)
    assert report.problems == ()
    assert report.exclusions.replays == 1


def test_the_first_rule_that_fits_decides(plant: AgeingPlant) -> None:
    rules = rule(50, tenant="other"), rule(5, modality=Modality.VIDEO), rule(30)
    with running(plant.started()):
        plant.settled()
        assert plant.expire(*rules, dry_run=True) == {"acme": 1}
        assert plant.expire(rule(5)) == {"acme": 2, "other": 1}
        plant.settled()
    assert set(plant.outcomes().values()) == {Outcome.EXPIRED}
    assert plant.audit().balanced


def test_a_newer_version_that_arrived_before_the_expiry_stays(plant: AgeingPlant) -> None:
    """The rows were read before the update, and the expiry is produced after it."""
    with running(plant.started()):
        plant.settled()
        message = KEYS.signed(expiry(plant.row("old"), NOW_MS))
        plant.aged("acme", "old", 0, b"new")
        plant.broker.append(message)
        plant.settled()
    assert plant.outcomes()["old"] is Outcome.INDEXED
    assert plant.owners()["acme", "old"] == 1
    report = plant.audit()
    assert (report.indexed, report.superseded, report.expired, report.balanced) == (3, 1, 0, True)


def test_an_expired_asset_is_indexed_again_by_a_new_event_and_stays_expired_by_old_ones(plant: AgeingPlant) -> None:
    with running(plant.started()):
        plant.settled()
        message = KEYS.signed(expiry(plant.row("old"), NOW_MS))
        plant.broker.append(message)
        plant.broker.append(message)  # delivered a second time
        plant.settled()
        assert plant.outcomes()["old"] is Outcome.EXPIRED
        plant.aged("acme", "old", 39, b"late", partition=1)  # newer, and over its age as well
        plant.settled()
        assert plant.expire(rule(30, tenant="acme")) == {"acme": 1}
        plant.settled()
        assert plant.outcomes()["old"] is Outcome.EXPIRED
        plant.aged("acme", "old", 1, b"new")
        plant.settled()
    assert plant.outcomes()["old"] is Outcome.INDEXED
    assert plant.audit().balanced


def test_an_expiry_without_a_signature_is_refused(plant: AgeingPlant) -> None:
    with running(plant.started()):
        plant.settled()
        plant.broker.append(expiry(plant.row("old"), NOW_MS))
        plant.settled()
    assert plant.outcomes()["old"] is Outcome.INDEXED


def test_after_a_crash_before_the_commit_everything_is_as_it_was(plant: AgeingPlant) -> None:
    with running(plant.started()):
        plant.settled()
        plant.expire(rule(30, tenant="acme"))
        plant.settled()
    before = {row.asset: row for row in all_asset_rows(plant.store)}
    for partition in plant.broker.partitions(TOPIC):  # all of it is delivered again
        plant.broker.group(GROUP).committed[partition] = 0
    with running(plant.started("again")):
        plant.settled()
    assert {row.asset: row for row in all_asset_rows(plant.store)} == before
    assert plant.outcomes()["old"] is Outcome.EXPIRED
    assert plant.owners() == {("acme", "young"): 1, ("other", "theirs"): 1}
    assert plant.audit().balanced


def ruled(**tenants: str) -> Settings:
    return load_settings(
        retention={"rules": [{"max_age_days": 30}]},
        kafka={"tenants": {topic: {"tenant": tenant, "modality": "text"} for topic, tenant in tenants.items()}},
    )


def test_an_expiry_is_not_sent_again_while_the_lanes_have_not_come_to_it(plant: AgeingPlant) -> None:
    settings = load_settings(kafka={"text_topic": TOPIC}, retention={"rules": [{"max_age_days": 30, "tenant": "acme"}]})
    with running(plant.started()):
        plant.settled()
    expirer = plant.expirer(lambda: settings)
    assert expirer.run() == {"acme": 1}
    ends = plant.log_ends()
    plant.aged("acme", "elsewhere", 40, partition=1)
    assert [expirer.run(), expirer.run()] == [{}, {}]
    with running(plant.started("again")):
        plant.settled()
        assert expirer.run() == {"acme": 1}  # an asset that came between the runs
        plant.settled()
        assert expirer.run() == {}
    assert sum(plant.log_ends().values()) == sum(ends.values()) + 2
    assert plant.outcomes()["elsewhere"] is Outcome.EXPIRED


def test_a_row_of_a_deleted_topic_gets_no_expiry_until_the_new_one_has_come_to_its_offset(plant: AgeingPlant) -> None:
    with running(plant.started()):
        plant.settled()
    retention = Retention((rule(30, tenant="acme"),), {TOPIC: Modality.TEXT}.get)
    origin = plant.row("old").origin
    partition = Partition(origin.topic, origin.partition)
    assert plant.carry_out(retention, ExpiryTargets({partition: origin.offset}), dry_run=True) == {}
    assert plant.carry_out(retention, ExpiryTargets({}), dry_run=True) == {}
    assert plant.carry_out(retention, ExpiryTargets({partition: origin.offset + 1}), dry_run=True) == {"acme": 1}


def test_a_tenant_does_not_end_assets_in_a_topic_of_another(plant: AgeingPlant) -> None:
    with running(plant.started()):
        plant.settled()
    expirer = plant.expirer(lambda: ruled(**{TOPIC: "other"}))
    assert expirer.run() == {"other": 1}


def test_topics_of_new_tenants_expire_without_a_restart(plant: AgeingPlant) -> None:
    with running(plant.started()):
        plant.settled()
    present = [ruled(another="other")]
    expirer = plant.expirer(lambda: present[0])
    assert expirer.run() == {}
    present[0] = ruled(another="other", **{TOPIC: "acme"})
    assert expirer.run() == {"acme": 1}


def test_rules_leave_deleted_assets_and_topics_of_others_alone() -> None:
    retention = Retention((rule(30),), {TOPIC: Modality.TEXT}.get)
    version = Version(0, 0, 1)
    here, elsewhere = AssetRef("t", TOPIC, "k"), AssetRef("t", "other.topic", "k")
    indexed = AssetRow(here, version, Outcome.INDEXED, {Collection.TEXT: 1}, "", 0)
    assert retention.is_over(indexed, NOW_MS)
    assert not retention.is_over(AssetRow(here, version, Outcome.DELETED, {}, "", 0), NOW_MS)
    assert not retention.is_over(AssetRow(here, version, Outcome.EXPIRED, {}, "", 0), NOW_MS)
    assert not retention.is_over(AssetRow(elsewhere, version, Outcome.INDEXED, {}, "", 0), NOW_MS)
