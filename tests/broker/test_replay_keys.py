"""Replays are believed by their signature alone."""

from __future__ import annotations

import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.broker.base import Message
from penstock.broker.deadletters import parse_dead_letter, to_message
from penstock.broker.headers import ORIGIN, ORIGIN_MAC, ORIGIN_TIMESTAMP
from penstock.broker.replay_keys import NO_KEYS, ReplayKeys
from penstock.broker.wire import MAX_AHEAD_MS, REFILL_SOURCE, encode_event, parse_record
from penstock.config import load_settings
from penstock.errors import BadInputError, ConfigError, Reason
from penstock.records import ClaimCheck, Event, Inline, Modality, Position, Record, Rejected, Version
from tests.replays import KEY, KEYS, as_replay, keys_of

HERE = Position("media.text", 1, 20)
FIRST = Position("media.text", 1, 3)
NOW_MS = 1_700_000_000_000
MESSAGE = replace(
    encode_event(topic=HERE.topic, key="contract.txt", payload=Inline(b"a text"), source="/t", tenant="acme"),
    partition=HERE.partition,
)


def delivered(message: Message, at: Position = HERE, timestamp_ms: int = NOW_MS) -> Record:
    return Record(at, message.key, message.value, message.headers, timestamp_ms)


def with_tenant(record: Record, tenant: bytes | None) -> tuple[tuple[str, bytes], ...]:
    others = tuple(header for header in record.headers if header[0] != "ce_tenant")
    return others if tenant is None else (*others, ("ce_tenant", tenant))


def parsed(record: Record, keys: ReplayKeys = KEYS, now_ms: int | None = NOW_MS) -> Event | Rejected:
    return parse_record(
        record, modality=Modality.TEXT, default_tenant="default", max_inline_bytes=1_000, replays=keys, now_ms=now_ms
    )


def reason(record: Record, keys: ReplayKeys = KEYS) -> Reason | None:
    outcome = parsed(record, keys)
    return outcome.reason if isinstance(outcome, Rejected) else None


def test_a_signed_replay_keeps_its_origin_and_time() -> None:
    assert KEYS.origin_of(delivered(as_replay(MESSAGE, FIRST, 99))) == (FIRST, 99)


@pytest.mark.parametrize(
    "forge",
    [
        lambda record: replace(record, key=b"another"),
        lambda record: replace(record, key=None),
        lambda record: replace(record, value=b"another"),
        lambda record: replace(record, value=None),
        lambda record: replace(record, position=replace(HERE, partition=2)),
        lambda record: replace(record, headers=with_tenant(record, b"globex")),
        lambda record: replace(record, headers=with_tenant(record, None)),
        lambda record: replace(record, headers=(*record.headers, (ORIGIN, b"media.text/1/4"))),
        lambda record: replace(record, headers=(*record.headers, (ORIGIN_TIMESTAMP, b"4600000000000000000"))),
        lambda record: replace(record, headers=(*record.headers[:-1], (ORIGIN_MAC, b"\xff"))),
        lambda record: replace(record, headers=record.headers[:-1]),
    ],
    ids=[
        "key",
        "no-key",
        "value",
        "tombstone",
        "partition",
        "tenant",
        "no-tenant",
        "origin",
        "timestamp",
        "mac",
        "no-mac",
    ],
)
def test_any_change_of_a_signed_replay_is_forbidden(forge: object) -> None:
    record = delivered(as_replay(MESSAGE, FIRST, 99))
    assert reason(record) is None
    assert reason(forge(record)) is Reason.FORBIDDEN  # type: ignore[operator]


def test_a_trace_that_is_added_on_the_way_does_not_spoil_a_signature() -> None:
    record = delivered(as_replay(MESSAGE, FIRST, 99))
    assert reason(replace(record, headers=(*record.headers, ("traceparent", b"00-1-1-01")))) is None


@given(partition=st.integers(0, 2**31 - 1), offset=st.integers(0, 2**63 - 1), timestamp_ms=st.integers(-(2**61), 2**61))
def test_no_forged_origin_makes_a_newer_version(partition: int, offset: int, timestamp_ms: int) -> None:
    """A forged origin would pin the asset: the owner's later events would count as superseded from then on."""
    forged = (
        (ORIGIN, f"media.text/{partition}/{offset}".encode()),
        (ORIGIN_TIMESTAMP, str(timestamp_ms).encode()),
        (ORIGIN_MAC, b"0" * 64),
    )
    for headers in (forged, forged[:2]):
        record = delivered(replace(MESSAGE, headers=(*MESSAGE.headers, *headers)))
        assert isinstance(parsed(record), Rejected)
    later = parsed(delivered(MESSAGE, at=replace(HERE, offset=21)))
    assert isinstance(later, Event)
    assert later.version == Version(NOW_MS, HERE.partition, 21)


def test_a_key_that_is_rotated_out_is_accepted_as_the_previous_one_alone() -> None:
    record = delivered(as_replay(MESSAGE, FIRST, 99))
    new = "another key, of the rotation"
    assert keys_of(new, KEY).origin_of(record) == (FIRST, 99)
    with pytest.raises(BadInputError):
        keys_of(new).origin_of(record)
    with pytest.raises(BadInputError):
        NO_KEYS.origin_of(record)


def test_unsigned_replays_are_believed_by_choice_alone() -> None:
    record = delivered(as_replay(MESSAGE, FIRST, 99))
    unsigned = replace(record, headers=record.headers[:-1])
    assert keys_of(allow_unsigned=True).origin_of(unsigned) == (FIRST, 99)


def test_the_dead_letter_of_a_forged_replay_does_not_pass_the_origin_on() -> None:
    """Otherwise an operator who replays it would sign what was forged."""
    record = delivered(replace(MESSAGE, headers=((ORIGIN, b"media.text/1/3"), (ORIGIN_TIMESTAMP, b"5"))))
    rejected = parsed(record)
    assert isinstance(rejected, Rejected)
    message = to_message(record, rejected, topic="dlq", failed_at_ms=1, replays=KEYS)
    letter = parse_dead_letter(Record(Position("dlq", 0, 0), message.key, message.value, message.headers, 1))
    assert letter is not None
    assert (letter.origin, letter.timestamp_ms, letter.reason) == (HERE, NOW_MS, Reason.FORBIDDEN)


def test_the_clock_of_a_producer_may_be_an_hour_ahead() -> None:
    assert reason(delivered(MESSAGE, timestamp_ms=NOW_MS + MAX_AHEAD_MS)) is None
    assert reason(delivered(MESSAGE, timestamp_ms=NOW_MS + MAX_AHEAD_MS + 1)) is Reason.FORBIDDEN
    assert reason(delivered(as_replay(MESSAGE, FIRST, NOW_MS + MAX_AHEAD_MS + 1))) is Reason.FORBIDDEN


# --- where the keys come from ----------------------------------------------------------------------------------------


def test_without_a_setting_the_key_is_made_once_in_the_data_folder(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data")
    assert not ReplayKeys.of(settings, create=False).keys()
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: tuple(ReplayKeys.of(settings).keys()), range(32)))
    ((key,),) = keys
    assert len(key) >= 32
    (file,) = (tmp_path / "data" / "secrets").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key.decode() not in repr(ReplayKeys.of(settings))


def test_the_keys_of_the_settings_sign_and_are_accepted(tmp_path: Path) -> None:
    new, old = "n" * 32, "o" * 32
    keys = ReplayKeys.of(load_settings(data_dir=tmp_path, replay={"key": new, "previous_key": old}))
    assert keys.keys() == [new.encode(), old.encode()]
    assert not list(tmp_path.iterdir())


def test_a_short_key_and_no_key_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="16 bytes"):
        ReplayKeys.of(load_settings(data_dir=tmp_path, replay={"key": "short"}))
    with pytest.raises(ConfigError, match=r"replay\.key"):
        NO_KEYS.signed(MESSAGE)


@pytest.mark.parametrize("fault", ["", "half", None])
def test_the_last_keys_count_while_the_file_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str | None
) -> None:
    """Otherwise a valid replay would stay malformed."""
    file = tmp_path / "key"
    file.write_text("k" * 40)
    keys = ReplayKeys.of(load_settings(data_dir=tmp_path, replay={"key_file": file}))
    if fault is None:
        file.unlink()
    else:
        file.write_text(fault)
    assert [keys.keys(), keys.keys()] == [[b"k" * 40]] * 2
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the keys of replays cannot be read, and the last ones count"
    ]
    file.write_text("n" * 40)
    assert keys.keys() == [b"n" * 40]


def test_keys_that_were_read_do_not_travel(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k" * 40)
    keys = ReplayKeys.of(load_settings(data_dir=tmp_path, replay={"key_file": file}))
    assert b"kkkk" not in pickle.dumps(keys)
    assert pickle.loads(pickle.dumps(keys)) == keys


def test_keys_of_two_data_folders_have_two_fingerprints_and_a_missing_one_has_none(tmp_path: Path) -> None:
    here, there = (load_settings(data_dir=tmp_path / name) for name in ("here", "there"))
    assert ReplayKeys.of(there, create=False).fingerprint() == ""
    first = ReplayKeys.of(here).fingerprint()
    assert first == ReplayKeys.of(here, create=False).fingerprint() != ReplayKeys.of(there).fingerprint()


def refill(source: str = REFILL_SOURCE) -> Message:
    payload = ClaimCheck("asset:" + "a" * 64)
    message = encode_event(topic=HERE.topic, key="contract.txt", payload=payload, source=source)
    return replace(message, partition=HERE.partition)


def test_only_a_signed_replay_of_a_reindex_refills() -> None:
    def refills(message: Message, keys: ReplayKeys = KEYS) -> bool:
        event = parsed(delivered(message), keys)
        assert isinstance(event, Event)
        return event.refills

    assert refills(as_replay(refill(), FIRST, 99))
    assert not refills(as_replay(refill("/t"), FIRST, 99))
    assert not refills(refill())  # anyone can name this source
    believing = keys_of(KEY, allow_unsigned=True)
    unsigned = replace(refill(), headers=as_replay(refill(), FIRST, 99).headers[:-1])
    assert [name for name, _ in unsigned.headers][-1] != ORIGIN_MAC
    assert not refills(unsigned, believing)
    assert refills(as_replay(refill(), FIRST, 99), believing)
