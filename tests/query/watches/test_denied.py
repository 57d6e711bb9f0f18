from __future__ import annotations

import pytest

from penstock.broker.base import Partition, PollResult
from penstock.broker.stops import DeniedPartition
from penstock.query.watches.denied import DeniedChanges

CHANGES = Partition("penstock.changes", 0)
STOPPED = PollResult(unreadable=[DeniedPartition(CHANGES, 7, "Read is denied.")])


def test_changes_that_may_not_be_read_are_named_once_and_read_again_after_half_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = [0.0]
    denied = DeniedChanges(lambda: now_s[0])
    assert denied.follow(STOPPED) == []
    for now_s[0] in (29.0, 30.0):
        due = denied.follow(PollResult())
    assert due == [(CHANGES, 7)]
    assert denied.follow(STOPPED) == []
    assert caplog.text.count("penstock.changes may not be read: Read is denied.") == 1


def test_a_refused_group_is_named_again_only_after_it_was_let_in(caplog: pytest.LogCaptureFixture) -> None:
    denied = DeniedChanges(lambda: 0.0)
    refused = PollResult(broker_available=False, refusal="Read on group g.watches is denied.")
    for polled in (refused, refused, PollResult(), refused):
        assert denied.follow(polled) == []
    assert caplog.text.count("watches are not evaluated: Read on group g.watches is denied.") == 2
