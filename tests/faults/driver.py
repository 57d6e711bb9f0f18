"""The ingest plane with workers that can be made to fail: `python -m tests.faults.driver FOLDER`.

It is the real plane with the real pools; the makers of the workers are replaced by those of `tests.faults.workers`. It
writes the process ids of its actors to a file, so that a test kills the process that it means to kill.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from functools import partial
from pathlib import Path

import ray
from ray._private.state import actors

from penstock.cli.common import run_until_signal
from penstock.config import load_settings
from penstock.errors import PenstockError
from penstock.ingest import launcher
from penstock.ingest.lane import actor
from penstock.ingest.plane import IngestPlane
from tests.faults.lanes import KillableLane
from tests.faults.switches import Switches
from tests.faults.workers import MakeFaultyEncodeWorker, MakeFaultyMediaWorker, MakeFaultyWriter

_PUBLISH_S = 0.2


def pids_of(plane: IngestPlane) -> dict[str, int]:
    """Process ids of the actors that live, by what they are: `lane-0`, `decode-0`, `joint.image-0`, `write-0`."""
    known = actors()
    pids: dict[str, int] = {}
    for name, handle in plane.actors().items():
        actor = known.get(handle._actor_id.hex())
        if actor is not None and actor["State"] == "ALIVE":
            pids[name] = actor["Pid"]
    return pids


def resize_lanes(plane: IngestPlane, request: Path) -> None:
    """Resizes to the number that the test has written to the file."""
    if request.exists():
        plane.resize_lanes(int(request.read_text()))


def publish_pids(plane: IngestPlane, target: Path, stop: threading.Event) -> None:
    while not stop.wait(_PUBLISH_S):
        if ray.is_initialized():
            temporary = target.with_suffix(".tmp")
            temporary.write_text(json.dumps(pids_of(plane)))
            temporary.replace(target)


def main(folder: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s %(message)s")
    switches = Switches(folder)
    launcher.EncodeWorkerFactory = partial(MakeFaultyEncodeWorker, switches)  # type: ignore[assignment,misc]
    launcher.MediaWorkerFactory = partial(MakeFaultyMediaWorker, switches)  # type: ignore[assignment,misc]
    launcher.WriterFactory = partial(MakeFaultyWriter, switches)  # type: ignore[assignment,misc]
    actor.LaneHost = KillableLane  # type: ignore[misc]
    try:
        run_until_signal(partial(run, folder))
    except PenstockError as exc:  # as `penstock ingest` does
        logging.error("%s", exc)
        sys.exit(exc.exit_code)


def run(folder: Path, stop: threading.Event) -> None:
    plane = IngestPlane(load_settings())
    threading.Thread(target=publish_pids, args=(plane, folder / "pids.json", stop), daemon=True).start()
    try:
        if not plane.start(stop):
            return
        (folder / "running").touch()
        while not stop.wait(_PUBLISH_S):
            plane.check()
            resize_lanes(plane, folder / "lanes")
    finally:
        plane.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
