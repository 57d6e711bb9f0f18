"""An ending in order, and a disk that is full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.check import check
from tests.faults.faults import Case
from tests.faults.process import eventually

pytestmark = [pytest.mark.services, pytest.mark.exhaustive]

Own = Callable[..., Case]

_END_S = 15.0  # for the processes to end once all is drained
_DRAINS_S = 5.0  # longer than the 3 s after which Ray's own handler of SIGTERM would abort the driver


def _count(case: Case) -> None:
    """Waits until the status, which is published once a second, counts all events."""
    eventually(lambda: case.plane.settled() == case.stream.produced, "all events are settled and counted")


def test_sigterm_under_load_drains_within_its_deadline_and_nothing_is_repeated(own: Own) -> None:
    case = own(ingest={"modalities": ["text", "image"]})
    plane, stream = case.plane, case.stream
    plane.start()
    with stream.flowing():
        eventually(lambda: plane.settled() > 300, "it is in the middle of the stream")
        plane.switches.hold("encode")
        eventually(lambda: plane.switches.waiting("encode"), "there is something to drain")
        threading.Timer(_DRAINS_S, plane.switches.release, ["encode"]).start()
        began_s = time.monotonic()
        assert plane.terminate() == 0
        assert time.monotonic() - began_s < plane.settings.ingest.drain_timeout_s + _END_S
    first = plane.settled()
    assert plane.lag() == stream.produced - first > 0
    plane.start()
    plane.settle()
    eventually(lambda: first + plane.settled() == stream.produced, "each event is settled once, by either driver")
    check(stream)


def test_sigterm_waits_for_no_video_and_no_segment_is_repeated(own: Own) -> None:
    case = own()
    plane, stream = case.plane, case.stream
    plane.start()
    plane.switches.hold("later-segment")
    stream.send_these([stream.video("under way")])
    stream.send(300)
    eventually(lambda: plane.switches.waiting("later-segment"), "a video has reached its second segment")
    eventually(lambda: plane.settled() > 200, "what is behind it is settled")
    began_s = time.monotonic()
    assert plane.terminate() == 0
    assert time.monotonic() - began_s < plane.settings.ingest.drain_timeout_s + _END_S
    plane.switches.release("later-segment")
    plane.start()
    plane.settle()
    check(stream)
    bad = {str(position) for position in stream.bad}  # have no asset row to be known by
    assert [
        position
        for position, times in Counter(plane.switches.noted("first-segment")).items()
        if times > 1 and position not in bad
    ] == []


def test_a_full_disk_pauses_ingest_until_there_is_room(own: Own, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    case = own(ingest={"min_free_disk_bytes": free * 7 // 8})  # others write too, but not as much
    plane, stream = case.plane, case.stream
    plane.start()
    stream.send(100)
    _count(case)
    hoard = plane.settings.data_dir / "hoard"
    with hoard.open("wb") as sink:
        os.posix_fallocate(sink.fileno(), 0, free // 4)
    try:
        eventually(lambda: "min_free_disk_bytes" in plane.status().paused, "ingest pauses and says why")
        settled = plane.settled()
        stream.send(450)
        assert plane.settled() == settled
    finally:
        hoard.unlink()
    plane.settle()
    check(stream)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which needs root")
def test_an_asset_store_without_room_makes_the_plane_wait_until_there_is_some(own: Own) -> None:
    case = own()
    plane, stream = case.plane, case.stream
    assets = plane.settings.data_dir / "assets"
    assets.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(assets)], check=True)
    try:
        plane.start()
        stream.send(550)
        lanes = ("lane-0", "lane-1")
        full = os.strerror(errno.ENOSPC)
        eventually(lambda: any(full in plane.log_of(lane) for lane in lanes), "a lane says that there is no room")
        assert plane.lag() > 0
        subprocess.run(["mount", "-o", "remount,size=256m", str(assets)], check=True)
        plane.settle()
        check(stream)
    finally:
        plane.close()
        subprocess.run(["umount", str(assets)], check=True)


def test_an_asset_store_that_cannot_be_written_makes_the_plane_wait(own: Own) -> None:
    case = own()
    plane, stream = case.plane, case.stream
    assets = plane.settings.data_dir / "assets"
    plane.start()
    stream.send(100)
    _count(case)
    aside = assets.rename(assets.with_name("aside"))
    assets.write_text("a file where the folder should be")
    settled = plane.settled()
    stream.send(450)
    lanes = ("lane-0", "lane-1")
    eventually(lambda: any("asset store" in plane.log_of(lane) for lane in lanes), "a lane says that it fails")
    assert plane.settled() - settled <= len(stream.bad)  # what needs no asset store may be settled: dead letters
    assets.unlink()
    aside.rename(assets)
    plane.settle()
    check(stream)
