"""Octets of text → characters."""

from __future__ import annotations

import pytest

from penstock.errors import BadInputError, Reason
from penstock.media.text.charsets import decode_charset

FRENCH = "Le café est très bon, et l'été dernier nous avons mangé à côté de la forêt où les élèves jouaient."
RUSSIAN = "Привет, как дела? Сегодня хорошая погода, и мы пойдём гулять в парк вместе."
POLISH = "Zażółć gęślą jaźń, proszę państwa, dzień dobry wszystkim ludziom na świecie."
JAPANESE = "これは日本語の文章です。今日は天気がいいので、公園に行きましょう。"
CHINESE = "今天天气很好，我们一起去公园散步吧。这是一个测试文本。"


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_decodes_with_and_without_a_mark(charset: str) -> None:
    assert decode_charset("Grüße an alle".encode(charset), declared=None) == "Grüße an alle"


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        (FRENCH, "cp1252"),
        (POLISH, "cp1250"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "cp932"),
        (CHINESE, "gb18030"),
        ("It’s a “quoted” text – with dashes, and some more words to follow here.", "cp1252"),
    ],
)
def test_a_charset_that_fits_a_language_is_detected(text: str, charset: str) -> None:
    assert decode_charset(text.encode(charset), declared=None) == text


@pytest.mark.parametrize("declared", ["text/plain; charset=iso-8859-1", 'text/plain; charset="windows-1252"'])
def test_a_named_charset_decides_where_words_are_too_few(declared: str) -> None:
    data = "Grüße".encode("cp1252")
    with pytest.raises(BadInputError):
        decode_charset(data, declared=None)
    assert decode_charset(data, declared=declared) == "Grüße"


def test_the_charset_that_the_markup_names_decides() -> None:
    page = '<html><head><meta charset="iso-8859-2"></head><body>łąka</body></html>'
    assert "łąka" in decode_charset(page.encode("iso-8859-2"), declared=None)


def test_utf8_wins_over_a_wrong_declaration() -> None:
    assert decode_charset("Grüße".encode(), declared="text/plain; charset=iso-8859-1") == "Grüße"


@pytest.mark.parametrize("named", ["rot13", "hex", "no-such-charset", "utf-8"])
def test_an_unknown_named_charset_is_ignored(named: str) -> None:
    with pytest.raises(BadInputError) as caught:
        decode_charset(b"Gr\xfc\xdfe", declared=f"text/plain; charset={named}")
    assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"Hello \xff\xfe\x80\x81 world", "byte 6"),
        ("naïve café résumé ".encode() * 5 + b"\xe9\xff caf\xe9", "byte 110"),
        ("Das ist größer".encode()[:12] + b"\xff", "byte 12"),
        (b"\xff\xfea\0b", "byte 4"),
    ],
)
def test_garbage_is_rejected_with_the_offset_of_the_first_invalid_byte(data: bytes, offset: str) -> None:
    with pytest.raises(BadInputError, match=offset) as caught:
        decode_charset(data, declared=None)
    assert caught.value.reason is Reason.CORRUPT


def test_utf8_with_a_missing_byte_is_rejected_and_not_decoded_otherwise() -> None:
    """Without that rule it reads as Windows-1252, "cafÃ©", and quite well."""
    data = ("The old café by the river serves very good bread, and we went there every morning. " * 4).encode()
    with pytest.raises(BadInputError, match=f"byte {len(data)}"):
        decode_charset(data + "é".encode()[:1], declared=None)
