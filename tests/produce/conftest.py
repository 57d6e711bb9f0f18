"""Settings and a composer for tests of sources."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from penstock.broker.base import Message
from penstock.broker.wire import parse_record
from penstock.config import MIB, Settings, load_settings
from penstock.produce.base import MediaSource
from penstock.produce.items import Cursor, OutgoingMessage, ProduceItem, RefusedSource
from penstock.records import Event, Position, Record


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path / "data", kafka={"max_message_bytes": MIB})


@pytest.fixture(scope="session")
def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def event_of(settings: Settings) -> Callable[[Message], Event]:
    """Returns a function that reads a message as the ingest plane does."""

    def read(message: Message) -> Event:
        record = Record(Position(message.topic, 0, 0), message.key, message.value, message.headers, 0)
        modality = settings.kafka.topics()[message.topic]
        parsed = parse_record(record, modality=modality, default_tenant="nobody", max_inline_bytes=64 * MIB)
        assert isinstance(parsed, Event), parsed
        return parsed

    return read


def messages(items: Sequence[ProduceItem]) -> list[Message]:
    """Returns the messages of items, none of which may be a refusal."""
    assert [item for item in items if isinstance(item, RefusedSource)] == []
    return [item.message for item in items if isinstance(item, OutgoingMessage)]


def reasons(items: Sequence[ProduceItem]) -> list[str]:
    """Returns why items were refused."""
    return [item.reason for item in items if isinstance(item, RefusedSource)]


def check_continues(make: Callable[[], MediaSource]) -> None:
    """Checks that a source continues behind each of its places with exactly what is left."""
    items = list(make().items(None))
    names = [item.label for item in items]
    assert items
    assert items[-1].mark is not None
    for number, item in enumerate(items, start=1):
        if item.mark is not None:
            cursor: Cursor = item.mark.cursor
            assert [left.label for left in make().items(cursor)] == names[number:], item.label
    done = [item.mark.done for item in items if item.mark is not None]
    assert done == sorted(done)
    total = make().total()
    assert total is None or done[-1] <= total
