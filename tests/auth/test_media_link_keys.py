from __future__ import annotations

import stat
from pathlib import Path

import pytest

from penstock.auth.media_link_keys import GRACE_S, LinkKeys, kept_key, open_media_links
from penstock.config import MediaLinkSettings, load_settings
from penstock.errors import ConfigError
from tests.clock import Clock


def test_a_data_folder_keeps_a_key_that_only_its_user_reads(tmp_path: Path) -> None:
    first = kept_key(tmp_path / "new")
    assert len(first) == 43
    assert kept_key(tmp_path / "new") == first != kept_key(tmp_path / "other")
    path = tmp_path / "new" / "media-links.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_key_that_is_replaced_in_its_file_counts_without_a_restart_and_the_one_before_it_too(tmp_path: Path) -> None:
    key, before = tmp_path / "key", tmp_path / "before"
    key.write_text("1" * 40 + "\n")
    before.write_text("0" * 40)
    clock = Clock()
    keys = LinkKeys(MediaLinkSettings(key_file=key, previous_key_file=before), None, clock)
    assert keys() == (b"1" * 40, b"0" * 40)
    before.write_text("1" * 40)
    key.write_text("2" * 40)
    clock.now_s = 1.0
    assert keys() == (b"2" * 40, b"1" * 40)


def test_a_half_written_file_keeps_the_keys_before_for_some_seconds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "key", Clock()
    path.write_text("1" * 40)
    keys = LinkKeys(MediaLinkSettings(key_file=path), None, clock)
    assert keys() == (b"1" * 40,)
    path.write_text("2" * 7)
    clock.now_s += 1.0
    assert keys() == (b"1" * 40,)
    assert "fewer than 32 characters" in caplog.text
    path.unlink()
    clock.now_s += 1.0
    assert keys() == (b"1" * 40,)
    path.write_text("2" * 40)
    clock.now_s += 1.0
    assert keys() == (b"2" * 40,)
    path.unlink()
    clock.now_s += GRACE_S
    for _ in range(2):
        with pytest.raises(ConfigError, match="key"):
            keys()
    path.write_text("3" * 40)
    assert keys() == (b"3" * 40,)


def test_a_link_outlives_the_replacement_of_its_key(tmp_path: Path) -> None:
    key, before = tmp_path / "key", tmp_path / "before"
    key.write_text("1" * 40)
    before.write_text("0" * 40)
    settings = load_settings(data_dir=tmp_path, media_links={"key_file": key, "previous_key_file": before})
    link = open_media_links(settings).sign("media/a", tenant="acme", subject="key:1")
    before.write_text("1" * 40)
    key.write_text("2" * 40)
    assert open_media_links(settings).verifies(link, "media/a", tenant="acme", subject=None)
    before.write_text("2" * 40)
    assert not open_media_links(settings).verifies(link, "media/a", tenant="acme", subject=None)


def test_a_short_key_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("short")
    with pytest.raises(ConfigError, match=r"media_links\.key has fewer than 32 characters"):
        open_media_links(load_settings(data_dir=tmp_path, media_links={"key_file": tmp_path / "key"}))
    with pytest.raises(ConfigError, match=r"setting media_links\.key"):
        load_settings(data_dir=tmp_path, media_links={"key": "short"})
