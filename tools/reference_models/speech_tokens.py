"""The tokens of the reference speech model: byte-level BPE in which every known word is one token, then Whisper's own.

    0 …            the 256 bytes, and the beginnings of words that lead to whole ones
    <|endoftext|>  and the other marks of Whisper's English models, in its order
    <|0.00|> …     1,501 times, 0.02 s apart

Decoders take tokens below `<|endoftext|>` for text, and tokens above `<|notimestamps|>` for times
(github.com/openai/whisper, tokenizer.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

TIMES = 1_501
STEP_S = 0.02
_BLANK = "Ġ"  # the blank in byte-level BPE
_MARKS = ("<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
          "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tokens:
    """The numbers of the tokens.

    Attributes:
        tokenizer: of the `tokenizers` library; faster-whisper reads it from `tokenizer.json`.
        end, start, no_speech: marks.
        first_time: `<|0.00|>`.
        count: of all tokens.
    """

    tokenizer: Tokenizer
    end: int
    start: int
    no_speech: int
    first_time: int
    count: int

    def word(self, word: str) -> int:
        """Returns the token of a known word, with the blank before it. Raises ValueError for another word."""
        number = self.tokenizer.token_to_id(_BLANK + word)
        if number is None:
            raise ValueError(f"{word!r} is not in the vocabulary")
        return int(number)

    def time(self, seconds: float) -> int:
        """Returns the token of the nearest time, within 0 to 30 s."""
        return self.first_time + min(TIMES - 1, max(0, round(seconds / STEP_S)))

    def names(self) -> list[str]:
        """Returns all tokens in order, as CTranslate2 expects them."""
        by_number = {number: token for token, number in self.tokenizer.get_vocab().items()}
        return [by_number[number] for number in range(self.count)]


def make_tokens(vocabulary: Sequence[str]) -> Tokens:
    """Builds the tokens for a vocabulary of plain words."""
    vocab = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for word in vocabulary:
        prefix = _BLANK
        for letter in word:  # merges begin at the blank only, so that their order does not matter
            if prefix + letter not in vocab:
                vocab[prefix + letter] = len(vocab)
                merges.append((prefix, letter))
            prefix += letter
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    times = [f"<|{number * STEP_S:.2f}|>" for number in range(TIMES)]
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in (*_MARKS, *times)])
    number_of = tokenizer.get_vocab()
    return Tokens(
        tokenizer,
        end=number_of["<|endoftext|>"],
        start=number_of["<|startoftranscript|>"],
        no_speech=number_of["<|nospeech|>"],
        first_time=number_of["<|0.00|>"],
        count=len(number_of),
    )
