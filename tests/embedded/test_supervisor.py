"""Tests `penstock up`: the start and the stop of all services, and that no process outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from penstock.assembly import open_assets
from penstock.cli import main as cli
from penstock.config import endpoints_file, load_settings, read_endpoints
from penstock.embedded import supervisor
from penstock.embedded.ray import EmbeddedRay
from penstock.embedded.services import ServiceStatus
from penstock.embedded.supervisor import CANARY_INTERVAL_S, Supervisor, ingests, may_reindex, with_defaults_of_up
from penstock.ingest.status import PlaneState, PlaneStatus, write_status
from penstock.records import Modality
from penstock.versions import Reindex, write_reindex

_START_S = 240.0  # 40 s on two idle cores


class Up:
    """A `penstock up` in its own process. The processes that it starts inherit a marker, by which tests find them."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.marker = uuid.uuid4().hex
        self.log = data_dir.parent / "up.log"
        self.ray = EmbeddedRay(data_dir)
        settings = ("--data-dir", str(data_dir), "--profile", "null:8")
        tied_to_this_process = (sys.executable, "-m", "penstock.processes", str(os.getpid()))
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [*tied_to_this_process, sys.executable, "-m", "penstock.cli.main", *settings, "up"],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "TEST_MARKER": self.marker,
                    "PENSTOCK_QUERY__PORT": "0",
                    "PENSTOCK_METRICS__PORT": "0",
                },
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Returns every running process that carries the marker."""
        running = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TEST_MARKER") == self.marker and process.status() != psutil.STATUS_ZOMBIE:
                    running.append(process)
            except psutil.Error:
                continue
        return running

    def wait_ready(self) -> None:
        _wait(lambda: "Ready." in self.output() or self.process.poll() is not None, _START_S, self.output)
        assert self.process.poll() is None, self.output()

    def wait_until_no_process_is_left(self, timeout_s: float) -> None:
        _wait(lambda: not self.processes(), timeout_s, lambda: str(self.processes()))

    def end(self) -> None:
        for process in self.processes():
            process.kill()
        self.process.wait()
        self.ray.stop()  # its folder outlives a supervisor that is killed, until the next one starts


def _wait(condition: Callable[[], bool], timeout_s: float, describe: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, describe()
        time.sleep(0.1)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path / "data")
    try:
        yield started
    finally:
        started.end()


@pytest.mark.services
@pytest.mark.timeout(600)
def test_up_serves_on_loopback_refuses_a_second_up_and_stops_in_order(
    up: Up, capsys: pytest.CaptureFixture[str]
) -> None:
    up.wait_ready()
    assert up.ray.temp_dir.exists()
    endpoints = read_endpoints(up.data_dir)
    assert endpoints is not None
    assert httpx.get(endpoints.query_url + "/healthz", timeout=10).status_code == 200
    listening = {
        (" ".join(process.cmdline()).strip(), connection.laddr)
        for process in up.processes()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening
    outside = [name for name, address in listening if address.ip.removeprefix("::ffff:") != "127.0.0.1"]
    # Serve's replica binds a port for other deployments to every interface (hard-coded); it requires Ray's token too.
    assert [name for name in outside if not name.startswith("ray::ServeReplica")] == []

    assert (up.data_dir / "ray-token").stat().st_mode & 0o077 == 0
    raylets = [process for process in up.processes() if process.name() == "raylet"]
    assert [raylet.environ()["RAY_AUTH_MODE"] for raylet in raylets] == ["token"]

    assert cli.main(["--data-dir", str(up.data_dir), "--profile", "null:8", "up"]) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert str(up.process.pid) in complaint
    assert endpoints.query_url in complaint

    assert cli.main(["--data-dir", str(up.data_dir), "--profile", "null:8", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ingest"]["state"] == "running"

    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(90) == 0, up.output()
    up.wait_until_no_process_is_left(5)
    assert not up.ray.temp_dir.exists()
    assert not endpoints_file(up.data_dir).exists()
    stopped = [line.partition(":")[0] for line in up.output().splitlines() if line.endswith(": stopped")]
    assert stopped == ["search", "ingest", "Ray", "Milvus", "Kafka"]


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_no_process_outlives_a_killed_supervisor(up: Up) -> None:
    up.wait_ready()
    assert len(up.processes()) > 5
    up.process.kill()
    up.process.wait()
    up.wait_until_no_process_is_left(15)


@pytest.mark.services
@pytest.mark.timeout(600)
@pytest.mark.exhaustive
def test_a_stop_during_the_start_leaves_no_process(up: Up) -> None:
    _wait(lambda: "starting" in up.output(), 60, up.output)
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(120) in (0, 130), up.output()
    up.wait_until_no_process_is_left(10)


def test_a_second_up_on_a_locked_folder_names_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    with (tmp_path / "up.lock").open("w") as lock:
        lock.write("4242")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.main(["--data-dir", str(tmp_path), "up"]) == 2
    assert "pid 4242" in capsys.readouterr().err


def test_a_data_folder_that_cannot_be_created_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["--data-dir", str(tmp_path / "file" / "data"), "up"]) == 2
    assert "--data-dir" in capsys.readouterr().err


@pytest.mark.parametrize("section", ["query", "metrics"])
def test_a_configured_port_in_use_is_refused_before_any_service_starts(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv(f"PENSTOCK_{section.upper()}__PORT", str(port))
        assert cli.main(["--data-dir", str(tmp_path), "--profile", "null", "up"]) == 2
    stderr = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 ({section}.port)" in stderr
    assert "starting" not in stderr


def test_an_unknown_profile_is_refused_before_any_service_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--data-dir", str(tmp_path), "--profile", "nope", "up"]) == 2
    stderr = capsys.readouterr().err
    assert "'nope'" in stderr
    assert "starting" not in stderr


def test_up_ingests_every_modality_and_loads_models_when_needed_unless_settings_say_otherwise(tmp_path: Path) -> None:
    ours = with_defaults_of_up(load_settings(profile="null:8", data_dir=tmp_path))
    assert ours.ingest.modalities == tuple(Modality)
    assert (ours.ingest.preloads, ours.query.preload, ours.canary.interval_s) == (False, False, CANARY_INTERVAL_S)
    chosen = {
        "ingest": {"modalities": ["text"], "preload": True},
        "query": {"preload": True},
        "canary": {"interval_s": 10.0},
    }
    theirs = with_defaults_of_up(load_settings(profile="null:8", data_dir=tmp_path, **chosen))
    assert theirs.ingest.modalities == (Modality.TEXT,)
    assert (theirs.ingest.preloads, theirs.query.preload, theirs.canary.interval_s) == (True, True, 10.0)


def test_up_leaves_out_audio_and_video_where_the_profile_has_no_speech_model(tmp_path: Path) -> None:
    settings = with_defaults_of_up(load_settings(profile="random:ViT-S-32-alt", data_dir=tmp_path))
    assert settings.ingest.modalities == (Modality.TEXT, Modality.IMAGE, Modality.DOCUMENT)


def test_only_a_plane_that_started_after_the_given_time_counts_as_running(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, kafka={"group": "ours"})
    assert not ingests(settings, 0)
    write_status(tmp_path, "theirs", PlaneStatus(PlaneState.RUNNING, 1, 200, "null", 1, {}))
    for state, updated_ms, expected in (("running", 99, False), ("starting", 101, False), ("running", 101, True)):
        write_status(tmp_path, "ours", PlaneStatus(PlaneState(state), 1, updated_ms, "null", 1, {}))
        assert ingests(settings, 100) is expected


def test_whether_a_re_index_is_under_way_may_be_unknown(tmp_path: Path) -> None:
    settings = load_settings(profile="null:8", data_dir=tmp_path, assets={"url": (tmp_path / "media").as_uri()})
    assert not may_reindex(settings)
    write_reindex(open_assets(settings), Reindex(1, 2, "null:9", "penstock.v2", 1))
    assert may_reindex(settings)
    open_assets(settings).put_note("reindex.json", b"damaged")
    assert may_reindex(settings)


@pytest.mark.timeout(60)
def test_an_outage_of_the_asset_store_does_not_end_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "media").write_text("a file in place of the folder")
    settings = load_settings(
        profile="null:8", data_dir=tmp_path, ray_address="127.0.0.1:1", assets={"url": (tmp_path / "media").as_uri()}
    )
    monkeypatch.setattr(supervisor, "_command", lambda *_words: (sys.executable, "-c", "raise SystemExit(3)"))
    reports: list[ServiceStatus] = []
    up = Supervisor(settings, reports.append, threading.Event())
    up._start_reindex(settings)
    try:
        up.watch(until=lambda: [report.state for report in reports].count("starting") == 2)
        assert [report.state for report in reports] == ["starting", "died", "starting"]
        (tmp_path / "media").unlink()  # it answers, and has no re-index
        up.watch(until=lambda: reports[-1].state == "stopped")
    finally:
        up.stop()
