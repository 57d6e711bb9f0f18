"""Octets of text → characters."""

from __future__ import annotations

from contextlib import suppress

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


@pytest.mark.parametrize(
    "named", ["rot13", "hex", "no-such-charset", "utf-8", "undefined", "unicode_escape", "raw-unicode-escape", "idna"]
)
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


# --- charsets that are not named -------------------------------------------------------------------------------------

# A sentence of a language, and the charsets in which its old files are.
SENTENCES = {
    "Święta spędziliśmy u babci, która upiekła pyszne ciasto ze śliwkami i opowiadała bajki.": (
        "cp1250",
        "iso8859_2",
    ),
    "Tegnap este későn értünk haza, mert az út hosszú volt, és sűrű köd ült a völgyben.": ("cp1250", "iso8859_2"),
    "Příští týden pojedeme na chalupu, kde už kvetou třešně a děti si budou hrát u řeky.": ("cp1250", "iso8859_2"),
    "Akşam üzeri çarşıya gittik, taze ekmek ve güzel şeftaliler aldık; yağmur da başladı.": ("cp1254", "iso8859_9"),
    "Το καλοκαίρι πηγαίνουμε στο νησί και κολυμπάμε κάθε πρωί στη θάλασσα με τους φίλους μας.": ("cp1253", "iso8859_7"),
    "Вчера вечером мы долго гуляли по набережной и смотрели, как лодки возвращаются домой.": ("cp1251", "koi8_r"),
    "Всяка сутрин дядо ми носи пресен хляб от пекарната и разказва за старите времена.": ("cp1251",),
    "Учора ввечері ми довго гуляли над річкою і дивилися, як їдуть додому рибалки з села.": ("cp1251", "koi8_u"),
    "בכל בוקר אנחנו הולכים לשוק וקונים לחם טרי, גבינה וירקות מן הגינה של השכנים.": ("cp1255",),
    "في كل صباح نذهب إلى السوق ونشتري الخبز الطازج والجبن والخضار من حديقة الجيران.": ("cp1256",),
    "ทุกเช้าเราเดินไปตลาดเพื่อซื้อขนมปังสดและผักจากสวนของเพื่อนบ้าน": ("cp874",),
    "매일 아침 우리는 시장에 가서 신선한 빵과 치즈와 채소를 삽니다. 날씨가 참 좋습니다.": ("cp949",),
    "每天早上我们去市场买新鲜的面包和蔬菜，然后一起在公园里散步聊天。": ("gb18030",),
    "每天早上我們去市場買新鮮的麵包和蔬菜，然後一起在公園裡散步聊天。": ("big5",),
    "毎朝、私たちは市場へ行って、焼きたてのパンと野菜を買います。天気がとても良いです。": ("cp932", "euc_jp"),
    "Im Frühjahr blühen über den Dächern die Kirschbäume, und die Kinder spielen draußen.": ("cp1252",),
    "En été, nous déjeunons près de la forêt, où les élèves jouaient déjà l’année passée.": ("cp1252",),
}
RENDERINGS = [(text, charset) for text, charsets in SENTENCES.items() for charset in charsets]


@pytest.mark.parametrize(
    ("text", "charset"), RENDERINGS, ids=[f"{text[:12]}-{charset}" for text, charset in RENDERINGS]
)
def test_a_sentence_in_a_charset_that_is_not_named_is_right_or_rejected(text: str, charset: str) -> None:
    data = text.encode(charset)
    for length in range(24, len(data) + 1, 8):
        cut = data[:length].decode(charset, "ignore").encode(charset)
        with suppress(BadInputError):
            assert decode_charset(cut, declared=None) == cut.decode(charset)


def test_nine_of_ten_sentences_in_charsets_that_are_not_named_are_read() -> None:
    read = 0
    for text, charset in RENDERINGS:
        with suppress(BadInputError):
            read += decode_charset(text.encode(charset), declared=None) == text
    assert read >= 0.9 * len(RENDERINGS)


def test_letters_of_a_western_language_in_a_charset_that_is_not_named_are_never_wrong() -> None:
    """Every language that Windows-1252 writes, from 30 to 300 bytes: the files in which guesses go wrong most."""
    sentences = [text for text, charsets in SENTENCES.items() if charsets == ("cp1252",)]
    for text in sentences:
        data = (text + " ").encode("cp1252") * 4
        for start in range(0, 60, 7):
            for length in (30, 60, 120, 300):
                piece = data[start : start + length]
                with suppress(BadInputError):
                    assert decode_charset(piece, declared=None) == piece.decode("cp1252")


# --- 7-bit charsets and labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("charset", ["iso2022_jp", "iso2022_jp_2", "iso2022_jp_ext"])
def test_japanese_with_escapes_is_read_without_a_name(charset: str) -> None:
    assert decode_charset(JAPANESE.encode(charset), declared=None) == JAPANESE


def test_korean_with_escapes_is_read_without_a_name() -> None:
    korean = "매일 아침 우리는 시장에 갑니다."
    assert decode_charset(korean.encode("iso2022_kr"), declared=None) == korean


def test_chinese_in_hz_is_read_without_a_name_and_tildes_of_code_stay() -> None:
    chinese = "今天天气很好\n我们去公园散步。"
    assert decode_charset(chinese.encode("hz"), declared=None) == chinese
    code = "for x in ~{a, b}~ or ~{c}: print(~{})"
    assert decode_charset(code.encode(), declared=None) == code


def test_escapes_that_do_not_decode_are_rejected_and_never_shown() -> None:
    with pytest.raises(BadInputError, match="ISO-2022") as caught:
        decode_charset(b"\x1b$B\xff\xfe tail", declared=None)
    assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize(
    ("label", "charset", "text"),
    [
        ("x-sjis", "cp932", "天気①"),
        ("windows-31j", "cp932", "良い天気"),
        ("windows-874", "cp874", "อากาศดีมาก"),
        ("iso-8859-8-i", "iso8859_8", "מזג האוויר"),
        ("x-mac-cyrillic", "mac_cyrillic", "Привет"),
        ("l2", "iso8859_2", "łąka"),
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("x-gbk", "gb18030", "镕基"),
        ("latin1", "cp1252", "“Grüße” – €"),
        ("cp866", "cp866", "Привет"),
    ],
)
def test_labels_mean_what_they_mean_on_the_web(label: str, charset: str, text: str) -> None:
    data = text.encode(charset)
    assert decode_charset(data, declared=f"text/plain; charset={label}") == text
    page = f'<html><head><meta charset="{label}"></head><body>'.encode() + data
    assert decode_charset(page, declared="text/html").endswith(text)


def test_a_charset_that_a_page_names_late_is_found() -> None:
    page = "<html><head>" + "<!-- padding -->" * 200 + '<meta charset="koi8-r"></head><body>Привет'
    assert decode_charset(page.encode("koi8-r"), declared=None) == page
