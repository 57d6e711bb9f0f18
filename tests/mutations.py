"""Breaks each guarantee of the ingest plane on purpose, one at a time, and looks whether a test notices.

    python -m tests.mutations [--write docs/mutations.md] [NAME…]

A mutation is a small patch of one source file, applied to a copy. The tests that should notice run against the copy:
those that are named with it, and the property tests of the lane. All of them must pass without it. It is an error if
the text that a mutation replaces is no longer there: write the mutation anew for the code as it is.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROPERTIES = "tests/ingest/test_lane_properties.py"
_TIMEOUT_S = 300
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One guarantee, broken.

    Attributes:
        name: what is done wrong, in words.
        file: below `src/penstock`.
        old, new: the text that is replaced, once.
        tests: those made for this guarantee; files or single tests.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = (
    Mutation(
        "commit before settle",
        "ingest/offsets.py",
        "return self.open[0] if self.open else self.position",
        "return self.position",
        "tests/ingest/test_offsets.py tests/ingest/test_lane.py",
    ),
    Mutation(
        "skip the dead letter",
        "ingest/pipeline.py",
        "        waiting = list(rejected)\n",
        "        waiting: list[Rejected] = []\n",
        "tests/ingest/test_pipeline.py tests/ingest/test_lane.py",
    ),
    Mutation(
        "call a dead letter done before it is acknowledged",
        "ingest/pipeline.py",
        "                    acknowledged(_ACK_TIMEOUT_S)\n",
        "                    pass\n",
        "tests/ingest/test_pipeline.py",
    ),
    Mutation(
        "a random id instead of the hash",
        "store/writer.py",
        "id=entry_id(event.asset, draft.collection, draft.part, plans[event.asset.id].space),",
        'id=__import__("uuid").uuid4().hex,',
        "tests/ingest/test_pipeline.py",
    ),
    Mutation(
        "drop the in-flight rule",
        "ingest/batching.py",
        "        if entry.asset_id in self._in_flight:\n",
        "        if not self:\n",
        "tests/ingest/test_batching.py",
    ),
    Mutation(
        "leave what waits of an asset that goes into flight",
        "ingest/batching.py",
        "        self._hold({asset_id for asset_id in assets if self._queued[asset_id]})\n",
        "",
        "tests/ingest/test_batching.py",
    ),
    Mutation(
        "forget the fence",
        "store/writer.py",
        "if assignment.generation < self._generations.get(",
        "if assignment.generation < -1 + 0 * self._generations.get(",
        "tests/ingest/test_pipeline.py",
    ),
    Mutation(
        "a restarted writer accepts everything",
        "store/writer.py",
        "self._generations: dict[tuple[str, int], int] | None = None",
        "self._generations: dict[tuple[str, int], int] | None = {}",
        "tests/store/test_writer.py",
    ),
    Mutation(
        "go on with what was seen before a partition came from another plane",
        "store/writer.py",
        "        if self._is_news(request.assignments):\n",
        "        if self._is_news(request.assignments) and False:\n",
        "tests/store/test_writer.py",
    ),
    Mutation(
        "clean up after a dead writer by what was seen before it died",
        "store/writer.py",
        "            self._store.catch_up()  # the write that broke off",
        "            # the write that broke off",
        "tests/store/test_writer.py",
    ),
    Mutation(
        "take an unanswered write for one that never was",
        "store/milvus.py",
        "            self._guarantees.unanswered(keys)\n",
        "            pass\n",
        "tests/store/test_catch_up.py",
    ),
    Mutation(
        "write two events of one asset at once",
        "store/claims.py",
        "                while any(not one.isdisjoint(wanted) for one in takewhile(",
        "                while any(not one.isdisjoint(()) for one in takewhile(",
        "tests/store/test_writer.py",
    ),
    Mutation(
        "look for the fence before the turn has come",
        "store/writer.py",
        """        with self._claims.of(event.asset.id for event in mine):
            fenced = self._fence(request)
            failed = _encode_failures(decoded, encoded)
""",
        """        fenced = self._fence(request)
        with self._claims.of(event.asset.id for event in mine):
            failed = _encode_failures(decoded, encoded)
""",
        "tests/store/test_writer.py",
    ),
    Mutation(
        "write the asset row first",
        "store/writer.py",
        """        for collection, written in entries.items():
            self._store.upsert(collection, written)
        if unfinished:
            self._store.put_progress(unfinished)
        for collection, ids in surplus.items():
            self._store.delete(collection, ids)
        rows = self._rows(whole, entries)
        if rows:
            self._store.put_asset_rows(rows)
""",
        """        rows = self._rows(whole, entries)
        if rows:
            self._store.put_asset_rows(rows)
        for collection, written in entries.items():
            self._store.upsert(collection, written)
        if unfinished:
            self._store.put_progress(unfinished)
        for collection, ids in surplus.items():
            self._store.delete(collection, ids)
""",
        "tests/store/test_writer.py",
    ),
    Mutation(
        "write without asking for the order",
        "store/writer.py",
        "            elif row is not None and row.version.newer_than(event.version):\n",
        "            elif row is not None and row is not rows[event.asset.id]:\n",
        "tests/ingest/test_pipeline.py tests/ingest/test_replay.py",
    ),
    Mutation(
        "leave surplus entries",
        "store/writer.py",
        "            if stale:\n                surplus[collection] = stale\n",
        "",
        "tests/ingest/test_pipeline.py",
    ),
    Mutation(
        "leave what a broken-off write wrote of a rejected event",
        "ingest/pipeline.py",
        "            self._retract([item for item in newest if settled[item.record.position].rejected is not None])\n",
        "",
        "tests/ingest/test_pipeline.py",
    ),
    Mutation(
        "supersede before the newer one is settled",
        "ingest/pipeline.py",
        "            settled = {one.position: one for one in self._process(newest, report)}\n",
        """            for items in versions:
                report.settlements += [Settlement(item, Outcome.SUPERSEDED) for item in items[:-1]]
            versions = [items[-1:] for items in versions]
            try:
                settled = {one.position: one for one in self._process(newest, report)}
            except StoppedError:
                return report
""",
        "tests/ingest/test_pipeline.py::test_older_versions_are_settled_only_after_the_newer_one_is",
    ),
    Mutation(
        "supersede though the newer one was rejected",
        "ingest/pipeline.py",
        "if one.outcome in (None, Outcome.DEAD_LETTERED) and len(items) > 1:",
        "if one.outcome is None and len(items) > 1:",
        "tests/ingest/test_pipeline.py",
    ),
    Mutation(
        "leave the older one where the newer one was fenced",
        "ingest/pipeline.py",
        "if one.outcome in (None, Outcome.DEAD_LETTERED) and len(items) > 1:",
        "if one.outcome is Outcome.DEAD_LETTERED and len(items) > 1:",
        "tests/ingest/test_pipeline.py",
    ),
    Mutation(
        "take done marks of a former assignment",
        "ingest/offsets.py",
        "if tracked is None or tracked.assignment != assignment:",
        "if tracked is None:",
        "tests/ingest/test_offsets.py",
    ),
    Mutation(
        "leave the old offset committed where the log was rolled back",
        "ingest/offsets.py",
        "        tracked.committed = None\n",
        "        tracked.committed = tracked.position\n",
        "tests/ingest/test_offsets.py tests/ingest/test_lane.py",
    ),
    Mutation(
        "leave the old offset committed where the log was rolled back while nobody looked",
        "ingest/lane.py",
        "assigned.cut_from if lost is None else lost.first",
        "None if lost is None else lost.first",
        "tests/ingest/test_lane.py",
    ),
    Mutation(
        "have what was under way of a log that was rolled back settle what is there now",
        "ingest/offsets.py",
        "not tracked.open[0] <= offset < tracked.position",
        "offset < tracked.open[0]",
        "tests/ingest/test_offsets.py",
    ),
    Mutation(
        "leave a partition alone that cannot be read",
        "ingest/lane.py",
        "        self._halt_before(polled.unreadable)\n",
        "",
        "tests/ingest/test_lane.py",
    ),
    Mutation(
        "ask again for what cannot be read",
        "broker/unreadable.py",
        "                self.drain()\n",
        "",
        "tests/broker/test_unreadable.py",
    ),
    Mutation(
        "stop below what is settled",
        "ingest/lane.py",
        "beyond={} if self._gate_reason else self._reached)",
        "beyond={})",
        "tests/ingest/test_lane.py",
    ),
    Mutation(
        "give a partition up before its batches are settled",
        "ingest/lane.py",
        "drained = {partition for partition in self._revoking if not self._busy_with(partition)}",
        "drained = set(self._revoking)",
        "tests/ingest/test_lane.py",
    ),
    Mutation(
        "give a partition up though its commit was not taken",
        "ingest/lane.py",
        "        if not drained or not self._commit():\n",
        "        self._commit()\n        if not drained:\n",
        "tests/ingest/test_lane.py",
    ),
    Mutation(
        "let a rebalance wait for a film",
        "ingest/lane.py",
        "        return self._flying[partition] > self._flying_long[partition] or ",
        "        return bool(self._flying[partition]) or ",
        "tests/ingest/test_slices.py",
    ),
    Mutation(
        "write a slice wherever it begins",
        "store/slices.py",
        "        if told.begins not in (Place(), begun.place) and told.place != begun.place:\n",
        "        if told is None:\n",
        "tests/store/test_slices.py",
    ),
    Mutation(
        "note how far a film is before its entries are written",
        "store/writer.py",
        """        for collection, written in entries.items():
            self._store.upsert(collection, written)
        if unfinished:
            self._store.put_progress(unfinished)
""",
        """        if unfinished:
            self._store.put_progress(unfinished)
        for collection, written in entries.items():
            self._store.upsert(collection, written)
""",
        "tests/store/test_slices.py",
    ),
    Mutation(
        "take a newer film's slices for surplus",
        "store/writer.py",
        "                if one.spared is not None:\n",
        "                if one.spared is not None and not self:\n",
        "tests/store/test_slices.py",
    ),
    Mutation(
        "do again what was settled behind a film",
        "ingest/pipeline.py",
        "            items_left = [item for item in items if item.record.position not in over]\n",
        "            items_left, settled = list(items), []\n",
        "tests/ingest/test_slices.py",
    ),
    Mutation(
        "let films that were begun go among the clips",
        "ingest/pipeline.py",
        "            if not report.batch.long:\n",
        "            if not report.batch.long and not items:\n",
        "tests/ingest/test_slices.py",
    ),
    Mutation(
        "forget the older versions of a film that goes to another lane",
        "ingest/lane.py",
        "                if self._goes_on(item):\n                    self._batcher.add(item)\n",
        '                logger.debug("%s", item)\n',
        "tests/ingest/test_slices.py",
    ),
    Mutation(
        "open whatever FFmpeg takes media for",
        "media/sound.py",
        """    "format_whitelist": ",".join(_FORMATS),\n""",
        "",
        "tests/media/test_sound.py",
    ),
    Mutation(
        "go on with a halted partition",
        "ingest/lane.py",
        "            if one.halted and self._ledger.assignment(",
        "            if one.halted and not self._ledger.assignment(",
        "tests/ingest/test_lane.py",
    ),
    Mutation(
        "take a replay for a new event",
        "broker/headers.py",
        "    return origin, timestamp_ms\n",
        "    return record.position, record.timestamp_ms\n",
        "tests/broker/test_wire.py tests/ingest/test_replay.py",
    ),
    Mutation(
        "replay to whichever partition",
        "ingest/replay.py",
        ", partition=letter.origin.partition",
        "",
        "tests/ingest/test_replay.py",
    ),
    Mutation(
        "call a failed replay done",
        "ingest/replay.py",
        "elif (letter := failed.get(one.origin)) is not None:",
        "elif (letter := failed.get(one.letter)) is not None:",
        "tests/ingest/test_replay.py",
    ),
)


@dataclass(frozen=True, slots=True)
class Caught:
    """Which tests noticed a mutation: the first of those made for it, and the property test. Empty: none."""

    mutation: Mutation
    by_test: str
    by_properties: bool


@contextmanager
def mutated(mutation: Mutation | None) -> Iterator[Path]:
    """A copy of the sources with the mutation in it.

    Raises:
        ValueError: the text is not there, or more than once.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-mutation-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        if mutation is not None:
            file = source / "penstock" / mutation.file
            text = file.read_text()
            if text.count(mutation.old) != 1:
                found = text.count(mutation.old)
                raise ValueError(f"{mutation.name}: {mutation.file} has its text {found} times, not once")
            file.write_text(text.replace(mutation.old, mutation.new))
        yield source


def failing(source: Path, tests: Sequence[str]) -> str:
    """The first of these tests that fails on the sources; empty if none does.

    Raises:
        RuntimeError: they could not be run at all.
    """
    environment = {**os.environ, "PYTHONPATH": os.fspath(source), "HYPOTHESIS_PROFILE": "mutation"}
    options = ("-q", "-x", "-p", "no:cacheprovider", "-m", "not services", "--timeout", "120")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest could not run {' '.join(tests)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = _FAILED.search(done.stdout)
    return "" if done.returncode == 0 else found.group(1) if found else "?"


def try_out(mutation: Mutation) -> Caught:
    with mutated(mutation) as source:
        by_test = failing(source, mutation.tests.split())
        caught = Caught(mutation, by_test.rpartition("::")[2], bool(failing(source, [PROPERTIES])))
    sys.stderr.write(f"{mutation.name}: {by_test or 'NOT NOTICED'}{', properties' * caught.by_properties}\n")
    return caught


def table(results: Sequence[Caught]) -> str:
    lines = ["| broken on purpose | in | noticed by | and by the property tests |", "|---|---|---|---|"]
    for one in results:
        noticed = f"`{one.by_test}`" if one.by_test else "**nothing**"
        lines.append(
            f"| {one.mutation.name} | `{one.mutation.file}` | {noticed} | {'yes' if one.by_properties else 'no'} |"
        )
    return "\n".join(lines) + "\n"


_HEAD = """# Guarantees, broken on purpose

Written by `make mutations` (`tests/mutations.py`). Each line is a small change of the code that breaks one guarantee.
The tests named have to notice it; they need no servers and take seconds. The property tests
(`tests/ingest/test_lane_properties.py`) drive lanes, pipeline, writers and dead letters through random faults, and
notice what can be seen from outside: where they say no, something else still holds (behind the fence, for one, stands
the order by asset row), which is why each guarantee has a test of its own.

"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="only mutations whose names contain one of these")
    parser.add_argument("--write", type=Path, help="write the table there")
    parser.add_argument("--jobs", type=int, default=2, help="so many at once")
    arguments = parser.parse_args()
    chosen = [one for one in MUTATIONS if not arguments.names or any(name in one.name for name in arguments.names)]
    everything = sorted({PROPERTIES, *(test for one in chosen for test in one.tests.split())})
    with mutated(None) as source:
        if unmutated := failing(source, everything):
            sys.stderr.write(f"{unmutated} fails without any mutation\n")
            return 1
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(pool.map(try_out, chosen))
    print(table(results), end="")
    if arguments.write is not None:
        arguments.write.write_text(_HEAD + table(results))
    return 0 if all(one.by_test for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
