"""Measures how fast a reranking model reads, and says how many passages fit into the time that is left.

The time of a call is taken as the event loop sees it. So it includes the wait behind the calls of other searches, and
on a busy replica batches become smaller and end earlier.
"""

from __future__ import annotations

from collections.abc import Sequence

# What a call costs besides its passages, in tokens: on two cores MiniLM takes 5 ms for one passage of 15 tokens and
# 11 ms for ten of them.
CALL_TOKENS = 100
# Before the first call: slow for MiniLM on two cores (some 0.05), fast for a cross-encoder. One call corrects it.
FIRST_MS_PER_TOKEN = 0.1
# A slower call counts for half of the estimate immediately, a faster one for a fifth: late answers cost more than
# passages that were not read.
_SLOWER_SHARE, _FASTER_SHARE = 0.5, 0.2
# Of a call that was given up only the least time is known.
_UNFINISHED_FACTOR = 1.5
# Each search that reads nothing, as nothing would fit, makes the next one more likely to try.
_DECAY = 0.9


class ReadingPace:
    """Estimates the time of a model's calls from those before. Belongs to one event loop.

    Attributes:
        ms_per_token: the estimate.
    """

    def __init__(self, ms_per_token: float = FIRST_MS_PER_TOKEN) -> None:
        self.ms_per_token = ms_per_token

    def observe(self, tokens: int, took_ms: float, *, finished: bool = True) -> None:
        """Counts a call that read this number of tokens, or was given up after this time."""
        measured = took_ms / (tokens + CALL_TOKENS) * (1 if finished else _UNFINISHED_FACTOR)
        if finished or measured > self.ms_per_token:
            share = _SLOWER_SHARE if measured > self.ms_per_token else _FASTER_SHARE
            self.ms_per_token += share * (measured - self.ms_per_token)

    def expected_ms(self, tokens: int) -> float:
        """Returns the milliseconds of a call that reads this number of tokens."""
        return (tokens + CALL_TOKENS) * self.ms_per_token

    def fitting(self, tokens: Sequence[int], *, left_ms: float, batch_ms: float) -> int:
        """Returns how many of the first passages the next call should read; 0 if one would be late.

        Args:
            tokens: of each passage in order; 0 for one that the model has read before.
            left_ms: until the end of the budget.
            batch_ms: the time of one call, which is exceeded only by a single passage.
        """
        if not tokens or self.expected_ms(tokens[0]) > left_ms:
            return 0
        read, count = 0, 0
        for of_passage in tokens:
            read += of_passage
            if count and self.expected_ms(read) > min(left_ms, batch_ms):
                break
            count += 1
        return count

    def skip(self) -> None:
        """Counts a search that read nothing, as nothing would fit: the end of the load has to be found out."""
        self.ms_per_token *= _DECAY
