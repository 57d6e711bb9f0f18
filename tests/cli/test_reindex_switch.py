"""`penstock reindex compare`, `switch` and `rollback` on a real store and a query plane that holds both versions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from penstock.assembly import open_assets, open_store
from penstock.broker.base import Message
from penstock.broker.producer import MessageProducer
from penstock.broker.topics import ensure_topics
from penstock.cli.common import Globals
from penstock.cli.reindex_switch import add_switch
from penstock.config import KafkaSettings, Settings
from penstock.errors import PenstockError, UnavailableError, UsageError
from penstock.records import AssetRow, Collection, Modality, Outcome, Version
from penstock.serve.versions import VersionSwitch, build_versions_app
from penstock.store.milvus.store import MilvusStore
from penstock.versions import Phase, Progress, version_settings, write_progress, write_reindex
from penstock.versions.progress import drop_progress
from penstock.versions.replicas import ReplicaReport, drop_report, write_report
from penstock.versions.switching import NOTE, served_version
from tests.serve.sample_index import entry
from tests.serve.versions.worlds import OLD, QUESTIONS, REINDEX, fill_version
from tests.served import served
from tests.services import kafka_broker
from tests.store.servers import milvus_lite_server

pytestmark = pytest.mark.services

TEXTS = tuple(f"{question} {number}" for number in range(5) for question in QUESTIONS)


@dataclass(frozen=True)
class Deployment:
    """A query plane over an index of two versions, and the command line in front of it."""

    settings: Settings
    app: VersionSwitch
    url: str

    def run(self, *arguments: str, kafka: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Runs a command; returns its exit code and what it wrote to stdout. Raises its PenstockError."""
        commands = typer.Typer()
        add_switch(commands)
        given = {
            "data_dir": self.settings.data_dir,
            "profile": OLD,
            "store": {"uri": self.settings.store.uri},
            "query": {"url": self.url},
            **({} if kafka is None else {"kafka": dict(kafka)}),
        }
        result = CliRunner().invoke(commands, arguments, obj=Globals(given))
        if isinstance(result.exception, PenstockError):
            raise result.exception
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout

    def served(self) -> int | None:
        """Returns the version that the store serves."""
        store = open_store(self.settings.store)
        try:
            return served_version(store)
        finally:
            store.close()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("reindex")
    with milvus_lite_server() as server:
        settings = Settings(
            profile=OLD,
            data_dir=folder,
            ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
            store={"uri": server.uri},  # type: ignore[arg-type]
            query={"deadline_ms": 30_000},  # type: ignore[arg-type]
        )
        for version in (1, 2):
            of_version = version_settings(settings, REINDEX, version)
            store = MilvusStore(of_version.store)
            fill_version(store, of_version, TEXTS)
            store.put_asset_rows([row(text) for text in TEXTS])
            store.close()
        write_reindex(open_assets(settings), REINDEX)
        app = build_versions_app(settings)
        with served(app, lifespan="on") as url:
            ends_s = time.monotonic() + 60
            while app.planes.held != (1, 2):
                assert time.monotonic() < ends_s
                threading.Event().wait(0.05)
            yield Deployment(settings, app, url)


def row(key: str) -> AssetRow:
    counts = {Collection.TEXT: 1}
    return AssetRow(entry(Collection.TEXT, key).asset, Version(1_000, 3, 17), Outcome.INDEXED, counts, "", 0)


@contextmanager
def without(deployment: Deployment, key: str) -> Iterator[None]:
    """Removes an asset from the new version, for a while."""
    of_version = version_settings(deployment.settings, REINDEX, 2)
    store = MilvusStore(of_version.store)
    fill_version(store, of_version, TEXTS[:1])
    deleted = replace(row(key), version=Version(1, 0, 0), outcome=Outcome.DELETED, counts={})
    store.put_asset_rows([deleted])
    yield
    store.put_asset_rows([row(key)])
    store.close()


def test_versions_that_hold_the_same_assets_pass(deployment: Deployment) -> None:
    code, output = deployment.run("compare", "--questions", "10", "--json")
    document = json.loads(output)
    assert code == 0
    assert (document["old"], document["new"], document["missing"]) == (1, 2, 0)
    (counts,) = document["counts"]
    assert counts["old"] == counts["new"] == {"assets": len(TEXTS), "entries": len(TEXTS)}
    answers = document["answers"]["index"]
    assert answers["old"]["recall"] == 1.0
    assert 0 < answers["new"]["recall"] <= 1.0
    sizes = [size["vector_bytes"] for size in document["sizes"]]
    assert sizes == [len(TEXTS) * 2 * dim * 4 for dim in (32, 48)]


def test_a_comparison_below_the_wanted_recall_fails(deployment: Deployment) -> None:
    of_version = version_settings(deployment.settings, REINDEX, 2)
    store = MilvusStore(of_version.store)
    fill_version(store, of_version, TEXTS[:1])
    store.delete(Collection.TEXT, [entry(Collection.TEXT, text).id for text in TEXTS[20:]])
    code, output = deployment.run("compare", "--questions", "10", "--min-recall", "0.9")
    assert code == 1
    assert "recall@10" in output
    fill_version(store, of_version, TEXTS)
    store.close()
    assert deployment.run("compare", "--questions", "10", "--min-recall", "0.9")[0] == 0


def test_a_missing_asset_is_named_and_fails_unless_it_was_waived(deployment: Deployment) -> None:
    assets = open_assets(deployment.settings)
    with without(deployment, TEXTS[7]):
        code, output = deployment.run("compare", "--questions", "2", "--json")
        assert code == 1
        assert [asset["key"] for asset in json.loads(output)["missing_assets"]] == [TEXTS[7]]
        write_reindex(assets, replace(REINDEX, waived=True))
        assert deployment.run("compare", "--questions", "2")[0] == 0
    write_reindex(assets, REINDEX)


def test_a_version_that_is_not_filled_or_lacks_assets_is_not_served(deployment: Deployment) -> None:
    assets = open_assets(deployment.settings)
    write_reindex(assets, replace(REINDEX, phase=Phase.FILLING))
    with pytest.raises(UsageError, match="not filled yet"):
        deployment.run("switch")
    write_reindex(assets, REINDEX)
    write_progress(assets, Progress(10, 10, 3, 0.0, 0))
    with pytest.raises(UsageError, match="3 assets are not available"):
        deployment.run("switch")
    drop_progress(assets)
    assert deployment.served() == 1


@pytest.mark.exhaustive
def test_a_switch_waits_for_the_group_of_the_new_version_and_for_the_replicas(deployment: Deployment) -> None:
    with kafka_broker() as broker:
        kafka = {"bootstrap_servers": broker.bootstrap_servers}
        settings = KafkaSettings(**kafka)  # type: ignore[arg-type]
        ensure_topics(settings, list(Modality))
        producer = MessageProducer(settings)
        for number in range(3):
            producer.send(Message("media.text", str(number).encode(), b"heron")).result(30)
        producer.close(30)
        with pytest.raises(UsageError, match="version 2 lags by 3 events, more than --max-lag 2"):
            deployment.run("switch", "--max-lag", "2", kafka=kafka)
        assert deployment.served() == 1
        code, output = deployment.run("switch", "--max-lag", "3", "--json", kafka=kafka)
        document = json.loads(output)
        assert (code, document["version"], document["replicas"], document["all_replicas"]) == (0, 2, 1, True)
        assert document["took_s"] < 1.0
        assert deployment.run("compare", "--questions", "3", kafka=kafka)[0] == 0
        report = ReplicaReport("dead beef", (1,), 1, time.time_ns() // 1_000_000)
        write_report(open_assets(deployment.settings), report)
        with pytest.raises(UnavailableError, match="replica dead beef does not hold version 2 yet"):
            deployment.run("switch", "--wait", "0.5", kafka=kafka)
        drop_report(open_assets(deployment.settings), "dead beef")
    code, output = deployment.run("rollback", "--json")
    assert (code, json.loads(output)["version"]) == (0, 1)
    assert deployment.served() == 1


def test_a_rollback_is_answered_within_a_second(deployment: Deployment) -> None:
    code, output = deployment.run("rollback", "--json")
    document = json.loads(output)
    assert code == 0
    assert (document["version"], document["replicas"], document["all_replicas"]) == (1, 1, True)
    assert document["took_s"] < 1.0


def test_a_switch_that_was_interrupted_is_finished_by_the_next_command(deployment: Deployment) -> None:
    assets = open_assets(deployment.settings)
    assets.put_note(NOTE, b'{"schema": 1, "to": 2}')
    deployment.run("rollback", "--json")
    assert assets.note(NOTE) is None
    assert deployment.served() == 1


def test_without_a_reindex_the_commands_say_how_to_begin_one(deployment: Deployment, tmp_path: Path) -> None:
    other = replace(deployment, settings=deployment.settings.model_copy(update={"data_dir": tmp_path}))
    for command in ("compare", "switch", "rollback"):
        with pytest.raises(UsageError, match="penstock reindex start"):
            other.run(command)
