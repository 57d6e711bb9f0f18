"""Holds the words of numbers, months and units in the languages that the check reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def _numbered(words: str, first: int = 0, step: int = 1) -> Iterator[tuple[str, float]]:
    for place, forms in enumerate(words.split()):
        for form in forms.split("/"):
            yield form, float(first + place * step)


_WORDS: Mapping[str, Mapping[str, float]] = {
    "en": dict(
        [
            *_numbered(
                "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
                "seventeen eighteen nineteen"
            ),
            *_numbered("twenty thirty forty/fourty fifty sixty seventy eighty ninety", 20, 10),
            ("half", 0.5), ("quarter", 0.25), ("couple", 2.0),
        ]
    ),
    "de": dict(
        [
            *_numbered("zwei/zwo drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn funfzehn "
                       "sechzehn siebzehn achtzehn neunzehn", 2),
            *_numbered("zwanzig dreissig/dreißig vierzig funfzig sechzig siebzig achtzig neunzig", 20, 10),
        ]
    ),
    "fr": dict(
        [
            *_numbered("deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize", 2),
            *_numbered("vingt trente quarante cinquante soixante", 20, 10),
        ]
    ),
    "es": dict(
        [
            *_numbered("dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince", 2),
            *_numbered("veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa", 20, 10),
        ]
    ),
    "it": dict(
        [
            *_numbered("due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici", 2),
            *_numbered("venti trenta quaranta cinquanta sessanta settanta ottanta novanta", 20, 10),
        ]
    ),
    "pt": dict(_numbered("dois/duas tres quatro cinco seis sete oito nove dez", 2)),
    "nl": dict(_numbered("twee drie vier vijf zes zeven acht negen tien elf twaalf", 2)),
    "ru": dict(_numbered("два/две три четыре пять шесть семь восемь девять десять", 2)),
}  # fmt: skip


def number_words(language: str | None) -> Mapping[str, float]:
    """Returns the values of the folded number words of a language; of English for others."""
    return _WORDS.get(language or "en", _WORDS["en"])


SCALES: Mapping[str, float] = {
    "hundred": 100.0, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "dozen": 12.0,
    "hundreds": 100.0, "thousands": 1e3, "millions": 1e6, "billions": 1e9, "hundert": 100.0, "tausend": 1e3,
    "millionen": 1e6, "milliarden": 1e9, "cent": 100.0, "mille": 1e3, "mil": 1e3, "millones": 1e6, "milioni": 1e6,
    "cento": 100.0, "cien": 100.0, "dutzend": 12.0, "тысяч": 1e3, "миллионов": 1e6,
}  # fmt: skip
ORDINALS: Mapping[str, float] = dict(
    _numbered(
        "first/1st second/2nd third/3rd fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
        "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth",
        1,
    )
)
MONTHS: Mapping[str, int] = {
    form: number
    for number, forms in enumerate(
        (
            "january jan januar janvier enero gennaio janeiro januari января",
            "february feb februar fevrier febrero febbraio fevereiro februari февраля",
            "march mar marz mars marzo marco maart марта", "april apr avril abril aprile апреля",
            "may mai mayo maggio maio mei мая", "june jun juni juin junio giugno junho июня",
            "july jul juli juillet julio luglio julho июля", "august aug aout agosto augustus августа",
            "september sep sept septembre septiembre settembre setembro сентября",
            "october oct oktober octobre octubre ottobre outubro октября",
            "november nov novembre noviembre novembro ноября",
            "december dec dezember decembre diciembre dicembre dezembro декабря",
        ),
        start=1,
    )
    for form in forms.split()
}  # fmt: skip

_UNIT_FORMS: Mapping[tuple[str, float], str] = {
    ("time", 0.001): "ms millisecond milliseconds",
    ("time", 1.0): "s sec secs second seconds sekunde sekunden seconde secondes segundo segundos secondi 秒",
    ("time", 60.0): "min mins minute minutes minuten minuto minutos minuti 分钟 分",
    ("time", 3600.0): "h hr hrs hour hours stunde stunden heure heures hora horas ora ore uur 小时 時間",
    ("time", 86400.0): "day days tag tage tagen jour jours dia dias giorno giorni dag dagen 天 日",
    ("time", 604800.0): "week weeks woche wochen semaine semaines semana semanas settimana settimane weken 周",
    ("months", 1.0): "month months monat monate monaten mois mes meses mese mesi maand maanden 个月 月",
    ("months", 12.0): "year years yr yrs jahr jahre jahren ans annee annees ano anos anno anni jaar 年",
    ("months", 120.0): "decade decades jahrzehnt jahrzehnte",
    ("months", 1200.0): "century centuries jahrhundert jahrhunderte siecle siecles siglo siglos",
    ("length", 0.001): "mm millimetre millimetres millimeter millimeters",
    ("length", 0.01): "cm centimetre centimetres centimeter centimeters zentimeter",
    ("length", 1.0): "m metre metres meter meters metro metros metri 米",
    ("length", 1000.0): "km kilometre kilometres kilometer kilometers kilometro kilometros 公里",
    ("length", 0.0254): "inch inches zoll",
    ("length", 0.3048): "ft foot feet",
    ("length", 0.9144): "yard yards",
    ("length", 1609.344): "mile miles meile meilen",
    ("mass", 0.000001): "mg milligram milligrams milligramm",
    ("mass", 0.001): "g gram grams gramme grammes gramm gramos grammi 克",
    ("mass", 1.0): "kg kilo kilos kilogram kilograms kilogramme kilogramm 公斤",
    ("mass", 1000.0): "tonne tonnes ton tons tonnen",
    ("pound", 1.0): "pound pounds lb lbs £ pfund",
    ("ounce", 1.0): "oz ounce ounces",
    ("volume", 0.001): "ml millilitre millilitres milliliter milliliters",
    ("volume", 1.0): "l litre litres liter liters litro litros litri 升",
    ("volume", 3.785): "gallon gallons",
    ("°", 1.0): "° degree degrees °c °f celsius fahrenheit grad degre degres grados gradi 度",
    ("%", 1.0): "% percent per-cent prozent pourcent ％",
    ("dollar", 1.0): "$ dollar dollars usd",
    ("euro", 1.0): "€ euro euros eur",
    ("yen", 1.0): "¥ yen yuan 元",
    ("bytes", 1e3): "kb kilobyte kilobytes",
    ("bytes", 1e6): "mb megabyte megabytes",
    ("bytes", 1e9): "gb gigabyte gigabytes",
    ("watt", 1.0): "w watt watts",
    ("watt", 1000.0): "kw kilowatt kilowatts",
    ("hertz", 1.0): "hz hertz",
    ("hertz", 1000.0): "khz kilohertz",
    ("times", 1.0): "times mal fois veces volte 倍",
}
UNITS: Mapping[str, tuple[str, float]] = {form: unit for unit, forms in _UNIT_FORMS.items() for form in forms.split()}
"""The dimension of each unit, and its factor to the base unit."""

_CJK_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_CJK_SCALES = {"十": 10, "百": 100, "千": 1000}
_CJK_LARGE = {"万": 10_000, "亿": 100_000_000}
CJK_NUMERALS = "".join({*_CJK_DIGITS, *_CJK_SCALES, *_CJK_LARGE})


def cjk_number(text: str) -> float | None:
    """Returns the value of Chinese numerals such as 三十五; None if a text is none."""
    total, section, digit = 0, 0, 0
    for char in text:
        if char in _CJK_DIGITS:
            digit = _CJK_DIGITS[char]
        elif char in _CJK_SCALES:
            section += (digit or 1) * _CJK_SCALES[char]
            digit = 0
        elif char in _CJK_LARGE:
            total += (section + digit) * _CJK_LARGE[char]
            section = digit = 0
        else:
            return None
    return float(total + section + digit) if text else None
