"""Checks what is opened for which settings, and that importing the module stays cheap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.assembly import folders_that_grow, join_ray, open_assets, open_store
from penstock.config import AssetStoreSettings, Endpoints, Settings, StoreSettings, write_endpoints
from penstock.errors import ConfigError, UnavailableError


def test_without_a_configured_store_the_message_names_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"store\.uri"):
        open_store(StoreSettings())


def test_media_are_kept_in_the_data_folder_unless_a_url_is_set(tmp_path: Path) -> None:
    assert open_assets(Settings(data_dir=tmp_path)).url == (tmp_path / "assets").as_uri()
    elsewhere = AssetStoreSettings(url="memory://elsewhere")
    assert open_assets(Settings(data_dir=tmp_path, assets=elsewhere)).url == "memory://elsewhere"


def test_only_the_disk_of_local_media_and_embedded_services_is_guarded(tmp_path: Path) -> None:
    def grow(settings: Settings) -> list[Path]:
        return list(folders_that_grow(settings, open_assets(settings)))

    local = Settings(data_dir=tmp_path)
    remote = Settings(data_dir=tmp_path, assets=AssetStoreSettings(url="memory://elsewhere"))
    other_disk = Settings(data_dir=tmp_path, assets=AssetStoreSettings(url=(tmp_path / "large").as_uri()))
    assert grow(local) == [tmp_path / "assets"]
    assert grow(other_disk) == [tmp_path / "large"]
    assert grow(remote) == []
    running = Endpoints(pid=os.getpid(), bootstrap_servers="k", store_uri="s", ray_address="r", query_url="q")
    write_endpoints(tmp_path, running)
    assert grow(remote) == [tmp_path]


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
