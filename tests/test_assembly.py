"""Checks what is opened for which settings, and that importing the module stays cheap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.assembly import join_ray, open_assets, open_store
from penstock.config import AssetStoreSettings, Settings, StoreSettings
from penstock.errors import ConfigError, UnavailableError


def test_without_a_configured_store_the_message_names_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"store\.uri"):
        open_store(StoreSettings())


def test_media_are_kept_in_the_data_folder_unless_a_url_is_set(tmp_path: Path) -> None:
    assert open_assets(Settings(data_dir=tmp_path)).url == (tmp_path / "assets").as_uri()
    elsewhere = AssetStoreSettings(url="memory://elsewhere")
    assert open_assets(Settings(data_dir=tmp_path, assets=elsewhere)).url == "memory://elsewhere"


def test_a_ray_that_cannot_be_joined_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError(f"nothing at {options['address']}")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(UnavailableError, match=r"Ray at 127\.0\.0\.1:9 cannot be joined: nothing at .*ray_address"):
        join_ray("127.0.0.1:9")


def test_a_process_joins_ray_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setattr("ray.is_initialized", lambda: bool(calls))
    monkeypatch.setattr("ray.init", lambda **options: calls.append(options))
    join_ray(None)
    join_ray(None)
    assert [call["address"] for call in calls] == [None]


def test_importing_the_module_loads_neither_ray_nor_the_store_client() -> None:
    program = "import sys, penstock.assembly; sys.exit(len({'ray', 'pymilvus', 'fsspec'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
