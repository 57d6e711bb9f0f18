"""Finds words within a small edit distance, by symmetric deletes in arrays (Garbe, SymSpell, 2012).

Two words within distance d have a string in common that each becomes by at most d deletions. Of every word the first
`PREFIX` letters are deleted from, which is enough and bounds the number of deletes. symspellpy keeps the deletes as
Python strings, 180 MB for 100,000 words and 3.4 s to build. Here a delete is a hash of 32 bits beside the place of its
word: 17 MB and 0.4 s. Words of equal hashes are compared letter by letter, so a collision costs time only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

UInt32Array = NDArray[np.uint32]

# 6 letters take as long as 7 beside 100,000 words and four fifths of the memory; 5 leave ten times as many to compare.
PREFIX = 6
_MULTIPLIER = 0x9E3779B1  # odd, so that no two letters of one place collide (Knuth's golden ratio)
_MASK = 0xFFFF_FFFF


class DeleteIndex:
    """The words within distance 1 or 2 of another, among given ones. Immutable.

    Args:
        words: distinct; they are known by their places in this sequence.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        # By generators: a thread that runs C alone, as `map(len, words)` does, holds the event loop of its process.
        self._lengths = np.fromiter((len(word) for word in words), dtype=np.uint8, count=len(words))
        self._masks = np.fromiter((_letter_mask(word) for word in words), dtype=np.uint32, count=len(words))
        by_level = _hashes_by_level(words)
        self._near = _sorted(by_level[0] + by_level[1])  # reached by at most one deletion
        self._far = _sorted(by_level[2])

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays."""
        arrays = (self._lengths, self._masks, *self._near, *self._far)
        return sum(array.nbytes for array in arrays)

    def within(self, word: str, distance: int) -> list[tuple[int, int]]:
        """Returns the places of the words within a distance, with the distance of each.

        Edits are insertions, deletions, substitutions and transpositions of neighbours (optimal string alignment).

        Args:
            word: 4 to 255 characters; of shorter ones distant words are missed.
            distance: 1 or 2.
        """
        keys = np.array(sorted(_hashes_of(word, distance)), dtype=np.uint32)
        matches = [_matches(self._near, keys)] + ([_matches(self._far, keys)] if distance > 1 else [])
        places = np.unique(np.concatenate(matches))
        lengths = self._lengths[places].astype(np.int16)
        places = places[np.abs(lengths - len(word)) <= distance]
        # A substitution changes two letters of a set of letters, an insertion one.
        differing = np.bitwise_count(self._masks[places] ^ np.uint32(_letter_mask(word)))
        places = places[differing <= 2 * distance]
        edits = edit_distances(word, [self._words[place] for place in places], distance)
        return [(int(place), int(edit)) for place, edit in zip(places, edits, strict=True) if edit <= distance]


def edit_distances(word: str, others: Sequence[str], limit: int) -> NDArray[np.uint8]:
    """Returns the optimal string alignment distances of a word and others, uint8[others]; limit + 1 where it is more.

    Only a band around the diagonal is computed, for all others together: a distance within the limit stays inside it.
    """
    far = limit + 1
    width = len(word) + limit
    letters = _letters([other[:width].ljust(width + 1, "\0") for other in others], width + 1)
    code_points = [ord(letter) for letter in word]
    band = range(2 * limit + 1)  # the cell of row i and column j has the place j - i + limit
    beyond = np.full(len(others), far, dtype=np.uint8)
    before = [beyond] * len(band)
    above = [np.full(len(others), place - limit, dtype=np.uint8) if place >= limit else beyond for place in band]
    for row, letter in enumerate(code_points, start=1):
        current: list[NDArray[np.uint8]] = []
        for place in band:
            column = row + place - limit
            if column <= 0:
                current.append(np.full(len(others), row, dtype=np.uint8) if column == 0 else beyond)
                continue
            other = letters[:, column - 1]
            cost = above[place] + (other != letter)
            if place + 1 < len(band):
                cost = np.minimum(cost, above[place + 1] + 1)
            if place:
                cost = np.minimum(cost, current[-1] + 1)
            if row > 1 and column > 1:
                swapped = (other == code_points[row - 2]) & (letters[:, column - 2] == letter)
                cost = np.where(swapped, np.minimum(cost, before[place] + 1), cost)
            current.append(np.minimum(cost, far).astype(np.uint8))
        before, above = above, current
    offsets = np.fromiter(map(len, others), dtype=np.int64, count=len(others)) - len(word) + limit
    inside = (offsets >= 0) & (offsets < len(band))
    table = np.stack(above)
    return np.where(inside, table[np.clip(offsets, 0, len(band) - 1), np.arange(len(others))], far).astype(np.uint8)


_Hashed = list[tuple[UInt32Array, UInt32Array]]


def _hashes_by_level(words: Sequence[str]) -> tuple[_Hashed, _Hashed, _Hashed]:
    """Returns for 0, 1 and 2 deletions arrays of hashes, with the places of their words beside them."""
    levels: tuple[_Hashed, _Hashed, _Hashed] = ([], [], [])
    lengths = np.fromiter((min(len(word), PREFIX) for word in words), dtype=np.int64, count=len(words))
    for length in range(1, PREFIX + 1):
        places = np.flatnonzero(lengths == length)
        if not len(places):
            continue
        letters = _letters([words[int(place)] for place in places], length)
        for deletions in range(min(2, length - 1) + 1):
            for kept in combinations(range(length), length - deletions):
                levels[deletions].append((_hash(letters, kept), places.astype(np.uint32)))
    return levels


def _letters(words: Sequence[str], length: int) -> UInt32Array:
    """Returns the code points of the first letters, uint32[words, length]."""
    prefixes = "".join(word[:length] for word in words)
    encoded = prefixes.encode("utf-32-le", "surrogatepass")
    return np.frombuffer(encoded, dtype="<u4").reshape(len(words), length)


def _hash(letters: UInt32Array, kept: Sequence[int]) -> UInt32Array:
    """Returns a hash of the kept columns of each row, as `_hashes_of` computes it for one word."""
    hashed = np.full(len(letters), len(kept), dtype=np.uint32)
    for column in kept:
        hashed = (hashed ^ letters[:, column]) * np.uint32(_MULTIPLIER)
        hashed ^= hashed >> np.uint32(15)
    return hashed


def _hashes_of(word: str, deletions: int) -> set[int]:
    """Returns the hashes of a word without up to this many of its first letters."""
    letters = [ord(letter) for letter in word[:PREFIX]]
    hashes: set[int] = set()
    for deleted in range(min(deletions, len(letters) - 1) + 1):
        for kept in combinations(letters, len(letters) - deleted):
            hashed = len(kept)
            for letter in kept:
                hashed = ((hashed ^ letter) * _MULTIPLIER) & _MASK
                hashed ^= hashed >> 15
            hashes.add(hashed)
    return hashes


def _sorted(hashed: _Hashed) -> tuple[UInt32Array, UInt32Array]:
    """Returns hashes in order, with the places of their words beside them."""
    if not hashed:
        return np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.uint32)
    keys = np.concatenate([keys for keys, _ in hashed])
    places = np.concatenate([places for _, places in hashed])
    order = np.argsort(keys, kind="stable")
    return keys[order], places[order]


def _matches(index: tuple[UInt32Array, UInt32Array], keys: UInt32Array) -> UInt32Array:
    """Returns the places of the words that have one of the keys."""
    hashes, places = index
    starts = np.searchsorted(hashes, keys, side="left")
    ends = np.searchsorted(hashes, keys, side="right")
    ranges: Iterator[UInt32Array] = (places[low:high] for low, high in zip(starts, ends, strict=True) if low < high)
    return np.concatenate([np.empty(0, dtype=np.uint32), *ranges])


def _letter_mask(word: str) -> int:
    """Returns a bit for each letter of a word; letters beyond the first 32 share bits."""
    mask = 0
    for letter in word:
        mask |= 1 << (ord(letter) & 31)
    return mask
