from __future__ import annotations

from pathlib import Path

import pytest

from penstock.encoders.unigram import UnigramTokenizer
from penstock.errors import ConfigError
from tests.encoders.use_files import PIECES, write_vocabulary


@pytest.fixture
def tokenizer(tmp_path: Path) -> UnigramTokenizer:
    write_vocabulary(tmp_path / "sp.model")
    return UnigramTokenizer(tmp_path / "sp.model")


def pieces(tokenizer: UnigramTokenizer, text: str) -> list[str]:
    return [PIECES[number] for number in tokenizer.encode([text])[0]]


def test_a_text_is_split_into_the_most_probable_pieces(tokenizer: UnigramTokenizer) -> None:
    assert pieces(tokenizer, "green teas") == ["▁green", "▁tea", "s"]
    assert pieces(tokenizer, "茶 自転車") == ["▁", "茶", "▁", "自転車"]


def test_spaces_around_and_between_do_not_count(tokenizer: UnigramTokenizer) -> None:
    assert pieces(tokenizer, "  red   tea ") == pieces(tokenizer, "red tea") == ["▁red", "▁tea"]


def test_what_the_vocabulary_lacks_is_one_unknown_piece(tokenizer: UnigramTokenizer) -> None:
    assert pieces(tokenizer, "red xyz") == ["▁red", "▁", "<unk>"]


@pytest.mark.parametrize("text", ["</s>", "<s>", "<unk>", " 2", "red </s>"])
def test_no_text_holds_a_control_piece(tokenizer: UnigramTokenizer, text: str) -> None:
    assert not {"<s>", "</s>"} & set(pieces(tokenizer, text))


def test_texts_are_counted_without_control_pieces(tokenizer: UnigramTokenizer) -> None:
    assert tokenizer.count(["red tea", "", "green teas"]) == [2, 0, 3]
    assert tokenizer.count([]) == []


@pytest.mark.parametrize("content", [b"", b"\x0a\xff", b"not a model at all", b"\x0a"])
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sp.model").write_bytes(content)
    with pytest.raises(ConfigError, match=r"sp\.model cannot be read as a tokenizer"):
        UnigramTokenizer(tmp_path / "sp.model")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sp\.model cannot be read"):
        UnigramTokenizer(tmp_path / "sp.model")
