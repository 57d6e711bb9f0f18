"""What `penstock status` says of media that are indexed slice by slice."""

from __future__ import annotations

from penstock.cli.status import _long_media


def test_those_that_are_furthest_are_shown_and_the_others_counted() -> None:
    lines = list(_long_media({f"default/media.video/film-{number}": 60.0 * number + 5 for number in range(1, 9)}))
    assert lines[0] == "  under way: default/media.video/film-8, 8:05 of it indexed"
    assert len(lines) == 6
    assert lines[-1] == "  under way: 3 more"


def test_nothing_is_said_where_there_are_none() -> None:
    assert not list(_long_media({}))
