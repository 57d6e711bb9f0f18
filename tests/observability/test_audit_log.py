"""Tests the lines of the audit log, its file, and the chain that shows later changes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import AuditLogSettings, AuthSettings, Settings
from penstock.errors import ConfigError
from penstock.observability.audit_chain import verify
from penstock.observability.audit_log import (
    AppendedFile,
    AuditLog,
    AuditNote,
    AuditRecord,
    begin_note,
    note,
    open_audit_log,
    record_command,
)


def written(*records: AuditRecord, with_text: bool = False) -> list[bytes]:
    lines: list[bytes] = []
    log = AuditLog(lines.append, with_text=with_text, now=lambda: 1_796_112_945.1234)
    for record in records:
        log.record(record)
    return lines


def a_record(text: str | None = None, tenant: str | None = "acme", **counts: int) -> AuditRecord:
    return AuditRecord("search", "ok", "key:k1", AuditNote(tenant, text, counts=counts), key_id="k1", status=200)


def test_a_line_names_caller_tenant_action_and_outcome_and_only_the_hash_of_the_text() -> None:
    (line,) = written(a_record("salaries", hits=3))
    document = json.loads(line)
    assert document["time"] == "2026-12-01T08:15:45.123Z"
    assert (document["action"], document["outcome"], document["status"]) == ("search", "ok", 200)
    assert (document["subject"], document["key_id"], document["tenant"], document["hits"]) == (
        "key:k1",
        "k1",
        "acme",
        3,
    )
    assert document["text_sha256"] == hashlib.sha256(b"salaries").hexdigest()
    assert b"salaries" not in line


def test_the_text_is_written_if_the_settings_demand_it() -> None:
    (line,) = written(a_record("salaries"), with_text=True)
    assert json.loads(line)["text"] == "salaries"


@given(st.text(st.characters(codec=None), max_size=30), st.text(st.characters(codec=None), max_size=600))
def test_whatever_a_caller_sends_stays_within_its_line(text: str, tenant: str) -> None:
    lines = written(a_record(text, tenant), a_record(), with_text=True)
    assert len(b"".join(lines).splitlines()) == 2
    assert not set(lines[0].decode()) & set("\x1b\x07\x9b\r\u202e")
    assert len(json.loads(lines[0])["tenant"]) <= 512
    assert verify(lines).problems == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: [lines[0].replace(b"acme", b"evil"), *lines[1:]], "does not follow"),
        (lambda lines: [lines[0], *lines[2:]], "has number 2"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "has number 0"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "has number 1"),
        (lambda lines: [lines[0], b"{}\n", *lines[1:]], "is not a line"),
        (lambda lines: lines[1:], "has number 1"),
    ],
    ids=["changed", "removed", "doubled", "swapped", "added", "started later"],
)
def test_a_later_change_of_the_log_is_noticed(change: Any, problem: str) -> None:
    lines = written(*(a_record(hits=number) for number in range(4)))
    assert verify(lines).problems == []
    assert any(problem in message for message in verify(change(lines)).problems)


def test_files_whose_beginning_was_rotated_away_are_verified_from_where_they_begin() -> None:
    lines = written(*(a_record(hits=number) for number in range(4)))
    assert verify(lines[2:], begins_anywhere=True).problems == []
    assert verify([lines[2].replace(b"acme", b"evil"), lines[3]], begins_anywhere=True).problems


def test_processes_and_threads_share_a_file_without_mixing_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log.jsonl"
    logs = [AuditLog(AppendedFile(path).write, with_text=False) for _ in range(4)]

    def fill(log: AuditLog) -> None:
        for _ in range(50):
            log.record(a_record("text" * 200))

    threads = [threading.Thread(target=fill, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify(path.read_bytes().splitlines())
    assert (report.lines, report.chains, report.problems) == (200, 4, [])
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_chain_continues_in_a_new_file_after_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = AuditLog(AppendedFile(path).write, with_text=False)
    log.record(a_record())
    path.rename(tmp_path / "log.jsonl.1")
    log.record(a_record())
    first, second = (tmp_path / "log.jsonl.1").read_bytes(), path.read_bytes()
    assert verify((first + second).splitlines()).problems == []
    assert verify(second.splitlines()).problems


def test_a_line_that_cannot_be_written_is_reported_and_missing_from_the_chain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines: list[bytes] = []

    def write(line: bytes) -> None:
        if b'"seq":1' in line:
            raise OSError("the disk is full")
        lines.append(line)

    log = AuditLog(write, with_text=False)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            log.record(a_record())
    assert len(lines) == 2
    assert "lacks what happens now: the disk is full" in caplog.text
    assert verify(lines).problems


def test_a_full_disk_is_an_error_rather_than_half_a_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    with pytest.raises(OSError, match="No space"):
        AppendedFile(Path("/dev/full")).write(b"line\n")


def test_notes_of_concurrent_tasks_do_not_mix_and_the_first_text_stays() -> None:
    async def action(tenant: str) -> AuditNote:
        started = begin_note()
        await asyncio.sleep(0)
        note(tenant=tenant, text=f"question of {tenant}")
        await asyncio.create_task(inner(tenant))
        return started

    async def inner(tenant: str) -> None:
        note(text="a search made of it", hits=len(tenant))

    async def both() -> list[AuditNote]:
        return list(await asyncio.gather(action("a"), action("bc")))

    first, second = asyncio.run(both())
    assert (first.tenant, first.text, first.counts) == ("a", "question of a", {"hits": 1})
    assert (second.tenant, second.text, second.counts) == ("bc", "question of bc", {"hits": 2})


@pytest.mark.parametrize(
    ("output", "mode", "is_open"),
    [("auto", "keys", True), ("auto", "none", False), ("off", "keys", False), ("file", "none", True)],
)
def test_requests_are_recorded_where_they_carry_credentials_or_the_settings_say_so(
    tmp_path: Path, output: Any, mode: Any, is_open: bool
) -> None:
    settings = Settings(data_dir=tmp_path, audit_log=AuditLogSettings(output=output), auth=AuthSettings(mode=mode))
    log = open_audit_log(settings)
    assert (log is not None) == is_open
    assert (tmp_path / "audit-log.jsonl").exists() == is_open


def test_a_file_that_cannot_be_written_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(audit_log=AuditLogSettings(output="file", file=tmp_path / "file" / "log.jsonl"))
    with pytest.raises(ConfigError, match=r"cannot be written.*See audit_log\.file"):
        open_audit_log(settings)


def test_commands_are_recorded_with_the_user_of_the_system(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    record_command(settings, "purge", "ok", tenant="acme", target={"key": "k1"}, entries=7)
    document = json.loads((tmp_path / "audit-log.jsonl").read_text())
    assert document["target"] == {"key": "k1"}
    assert (document["action"], document["tenant"], document["entries"]) == ("purge", "acme", 7)
    assert document["subject"].startswith("os:")
    assert (tmp_path / "audit-log.jsonl").stat().st_mode & 0o777 == 0o600
