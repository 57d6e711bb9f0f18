"""The vocabulary of the reference speech model, about 140 words, and the sentences that are composed of them.

The nouns are names of reference images, so that the sentences of the demo's videos match the scenes that they show.
Text is lower case and has no punctuation: the model writes words and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

# Words by their function in a sentence. No word occurs twice.
WORDS: Mapping[str, Sequence[str]] = {
    "animal": (
        "bear", "camel", "cat", "cow", "crab", "deer", "dog", "dolphin", "dragon", "eagle", "elephant", "fox", "frog",
        "giraffe", "goat", "horse", "kangaroo", "lion", "monkey", "octopus", "owl", "penguin", "rabbit", "snake",
        "swan", "tiger", "turtle", "whale", "wolf", "zebra",
    ),
    "thing": (
        "apple", "balloon", "banana", "basket", "bell", "bicycle", "bread", "candle", "carrot", "compass", "crown",
        "drum", "feather", "guitar", "hammer", "kite", "ladder", "lemon", "mirror", "mushroom", "pencil", "anchor",
        "teapot", "rocket", "scissors", "strawberry", "telescope", "tomato", "trumpet", "umbrella", "violin",
    ),
    "place": (
        "beach", "bridge", "castle", "church", "desert", "factory", "fountain", "garden", "harbor", "hospital",
        "island", "market", "mountain", "river", "school", "station", "village", "volcano",
    ),
    "colour": ("red", "blue", "green", "yellow", "white", "black", "silver", "golden"),
    "kind": ("small", "large", "young", "hungry", "quiet", "broken"),
    "moves": ("walks", "runs", "waits", "sleeps", "dances", "hides"),
    "person": ("farmer", "teacher", "captain", "doctor", "sister", "brother"),
    "does": ("paints", "carries", "finds", "sells", "draws", "repairs"),
    "time": ("today", "tonight", "tomorrow", "always", "again"),
    "number": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "joins": ("beside", "behind", "near", "under", "over"),
    "small": ("the", "a", "and", "in", "of", "there", "is", "my", "with", "at"),
}  # fmt: skip

# Each brace is replaced by a word of that class.
TEMPLATES: Sequence[str] = (
    "the {colour} {thing} is {joins} the {place}",
    "a {kind} {animal} {moves} {joins} the {place}",
    "the {person} {does} a {colour} {thing}",
    "my {person} {does} the {thing} and the {thing}",
    "the {animal} {moves} with the {animal} {time}",
    "there is a {animal} in the {place}",
    "there is a {kind} {thing} {joins} the {colour} {thing}",
    "{time} the {animal} {moves} at the {place}",
    "{time} my {person} {does} a {thing} at the {place}",
    "the {kind} {animal} and the {kind} {animal} {moves} {time}",
    "a {person} with a {colour} {thing} {moves} in the {place}",
    "{number} of the {kind} {colour} {thing} {joins} the {thing}",
    "the {place} is {joins} the {place}",
    "in the {place} a {colour} {animal} {moves}",
    "the {person} and my {person} {does} the {thing} {time}",
    "{joins} the {colour} {place} the {person} {does} a {animal}",
)

VOCABULARY: Sequence[str] = tuple(word for words in WORDS.values() for word in words)


def sentence(choose: random.Random) -> str:
    """Returns one of the templates, filled in; no word of a class occurs twice in it."""
    remaining = {name: list(members) for name, members in WORDS.items()}
    words = []
    for word in choose.choice(TEMPLATES).split():
        if word.startswith("{"):
            candidates = remaining[word[1:-1]]
            word = candidates.pop(choose.randrange(len(candidates)))  # noqa: PLW2901 - it replaces the brace
        words.append(word)
    return " ".join(words)


def word_string(choose: random.Random, count: int) -> str:
    """Returns `count` words in random order.

    A model that is trained on sentences alone learns to guess the next word, and ignores the audio.
    """
    return " ".join(choose.choices(VOCABULARY, k=count))
