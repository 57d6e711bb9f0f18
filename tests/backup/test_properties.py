"""Whatever happens during a backup, the restored index catches up with the one that was lost."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit.simulated_plane import IMAGE, TEXT, kinds
from tests.backup.world import World

_EVENTS = st.lists(
    st.tuples(
        st.sampled_from([TEXT, IMAGE]),
        st.integers(0, 1),
        st.sampled_from("abcde"),
        st.sampled_from([b"0", b"1", b"2", b"5", b"bad", None]),
    ),
    max_size=6,
)


def produce(world: World, events: list[tuple[str, int, str, bytes | None]]) -> None:
    for topic, partition, key, value in events:
        # A key has one partition, as a producer's partitioner gives it one.
        world.produce(key, value, topic=topic, partition=(partition + ord(key)) % 2 if key == "e" else ord(key) % 2)


@settings(max_examples=60, deadline=None)
@given(before=_EVENTS, during=st.lists(_EVENTS, max_size=12), after=_EVENTS, page=st.integers(1, 4))
def test_a_restored_index_catches_up(
    before: list[tuple[str, int, str, bytes | None]],
    during: list[list[tuple[str, int, str, bytes | None]]],
    after: list[tuple[str, int, str, bytes | None]],
    page: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        produce(world, before)
        world.ingest()
        remaining = iter(during)

        def settle_more(_stage: str) -> None:
            produce(world, next(remaining, []))
            world.ingest()

        world.back_up(page=page, part_bytes=1, during=settle_more)
        produce(world, after)
        world.ingest()
        expected = world.index()
        world.lose_index()
        world.restore()
        world.ingest()
        assert world.index() == expected
        report = world.audit()
        assert kinds(report) == {}
        assert report.balanced
