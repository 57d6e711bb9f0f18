from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import ConfigError
from penstock.query.understand.synonyms import (
    MAX_EXPANSIONS,
    RELOAD_S,
    SynonymFile,
    parse_synonyms,
    read_synonyms,
)
from tests.clock import Clock

FILE = """
# comment
tv, television, 电视      # each for the others
tiny, small => little
手机 => 智能手机
new york, big apple
C\\, C\\=>x => c language
Café, coffee shop
"""


def expand(question: str, text: str = FILE) -> dict[str, tuple[str, ...]]:
    return parse_synonyms(text, "file").expand(question)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("a TV set", {"tv": ("television", "电视")}),
        ("television", {"television": ("tv", "电视")}),
        ("a small, tiny box", {"small": ("little",), "tiny": ("little",)}),
        ("little box", {}),
        ("small little box", {}),
        ("hotels in new york", {"new york": ("big apple",)}),
        ("new hotels", {}),
        ("a CAFE", {"cafe": ("coffee shop",)}),
        ("coffee shop café", {}),
        ("", {}),
    ],
)
def test_the_words_of_a_question_are_widened(question: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert expand(question) == expected


def test_a_chinese_word_is_found_inside_a_clause() -> None:
    assert expand("我的手机坏了") == {"手机": ("智能手机",)}
    assert expand("智能手机") == {}
    assert expand("买电视机") == {"电视": ("tv", "television")}


def test_commas_and_arrows_can_be_escaped() -> None:
    assert expand("c c", "C\\, c\\=>, x y => ansi\\#1") == {"c c": ("ansi#1",)}


def test_rules_of_several_lines_add_up() -> None:
    assert expand("tv", "tv => television\ntv, telly") == {"tv": ("television", "telly")}


def test_a_question_has_a_bounded_number_of_expansions() -> None:
    text = "a => " + ", ".join(f"b{n}" for n in range(100))
    assert len(expand("a", text)["a"]) == MAX_EXPANSIONS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a, b\n\nsolo", r"file, line 3: 'solo' stands alone"),
        ("a => b => c", r"file, line 1: there is more than one =>"),
        ("a, , b", r"file, line 1: there is an empty word"),
        ("a =>", r"file, line 1: there is an empty word"),
        ("=> a", r"file, line 1: there is an empty word"),
        ("a, b\\", r"file, line 1: a backslash ends the line"),
        ("one two three four five six => x", r"file, line 1: .* more than 5 words"),
    ],
)
def test_an_error_has_the_number_of_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_synonyms(text, "file")


def test_a_file_that_is_missing_or_no_utf_8_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"query\.synonyms\) cannot be read: No such file"):
        read_synonyms(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("a, b\nö, ä".encode("latin-1"))
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        read_synonyms(tmp_path / "latin.txt")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path, clock = tmp_path / "synonyms.txt", Clock()
    path.write_text("a, b")
    file = SynonymFile(path, clock)
    assert not file.is_due()
    clock.now_s += RELOAD_S
    assert file.is_due()
    path.write_text("a, b, c")
    file.reload()
    assert not file.is_due()
    assert file.current.expand("a") == {"a": ("b", "c")}


def test_a_broken_or_missing_version_leaves_the_one_before_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("a, b")
    file = SynonymFile(path, Clock())
    path.write_text("a, b\nbroken")
    file.reload()
    file.reload()
    assert file.current.expand("a") == {"a": ("b",)}
    path.unlink()
    file.reload()
    assert file.current.expand("a") == {"a": ("b",)}
    broken, missing = [record.getMessage() for record in caplog.records]
    assert "line 2" in broken
    assert broken.endswith("The synonyms before it stay in use")
    assert "cannot be read" in missing


def test_a_broken_file_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("broken")
    with pytest.raises(ConfigError, match="line 1"):
        SynonymFile(path, Clock())
