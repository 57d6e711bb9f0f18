"""Labels the channels of an index by what people chose, for a calibration of an index without labelled questions.

    1 divide   choices whose words were kept, by time; later questions in words of an earlier one are left out
    2 search   every channel of the index for each question, as the query plane routes it
    3 fit      the calibration to the earlier questions
    4 judge    by the later ones: the place of the chosen entries with the calibration in use, and with the new one

What was never chosen counts as wrong, although it may be right, so that relevance is lower than by labels: it is the
probability that an entry is chosen. Choices are of what was shown, the first places most often.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from penstock.encoders.profiles import Profile
from penstock.evaluate.fusions import open_fusion
from penstock.evaluate.metrics import CUT
from penstock.evaluate.offline import DEPTH, MOMENTS
from penstock.query.fusion.base import kind_of
from penstock.query.fusion.calibration import Calibration
from penstock.query.route import route
from penstock.query.types import ChannelQuery, FuseOptions, Kind, Query, Rankings
from penstock.records import Access, Channel, Choice, Collection, Float32, ScoredEntry
from penstock.store.base import EntryQuery, EntrySearch
from penstock.train.clicks import split_by_time
from penstock.train.labels import LabelledQuestion

_DEADLINE_MS = 10_000  # of no consequence: each search has the timeout of the store


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question in words, and what was chosen for it.

    Attributes:
        text: as it was kept.
        tenant: of its askers.
        digest: of the words.
        right: ids of the chosen entries.
    """

    text: str = field(repr=False)
    tenant: str
    digest: str
    right: frozenset[str]


@dataclass(frozen=True, slots=True)
class LaterFigures:
    """Compares two calibrations by questions that came after those of the fit.

    Attributes:
        questions: how many.
        base, fitted: MRR@10 of the chosen entries, with the calibration in use and with the new one.
    """

    questions: int
    base: float
    fitted: float


def divide_questions(choices: Iterable[Choice]) -> tuple[list[AskedQuestion], list[AskedQuestion]]:
    """Returns the earlier questions whose words were kept, and the later ones in other words."""
    past, future = split_by_time(choice for choice in choices if choice.text)
    earlier, later = _asked(past), _asked(future)
    known = {(question.tenant, question.digest) for question in earlier}
    return earlier, [question for question in later if (question.tenant, question.digest) not in known]


def label_questions(
    questions: Sequence[AskedQuestion],
    store: EntrySearch,
    profile: Profile,
    embed: Callable[[str, Sequence[str]], Float32],
    *,
    timeout_s: float,
) -> list[LabelledQuestion]:
    """Searches every channel for each question. Questions whose chosen entries no channel returns are kept: they count.

    Args:
        questions: in words.
        store: the index, as it is now.
        profile: of the index.
        embed: returns float32[texts, dim] by the name of an encoder of queries.
        timeout_s: of each search.

    Raises:
        UnavailableError: the store does not answer.
    """
    offered = store.channels()
    in_index = {channel.collection for channel in offered}
    collections = tuple(collection for collection in Collection if collection in in_index)
    texts = [question.text for question in questions]
    vectors: dict[str, Float32] = {}
    labelled = []
    for place, question in enumerate(questions):
        query = Query(
            question.text, None, None, collections, False, None, Access.to_all_of(question.tenant), DEPTH, _DEADLINE_MS
        )
        plans = route(query, offered=offered, profile=profile).queries
        by_channel = {}
        for plan in plans:
            content: str | Float32 = question.text
            if plan.encoder is not None:
                if plan.encoder not in vectors:
                    vectors[plan.encoder] = embed(plan.encoder, texts)
                content = vectors[plan.encoder][place]
            by_channel[plan.channel] = store.search(
                EntryQuery(plan.channel, content, query.access, None, DEPTH, timeout_s)
            )
        labelled.append(LabelledQuestion(question.text, _rankings(by_channel, plans, question), question.right))
    return labelled


def judge_later(
    questions: Sequence[LabelledQuestion], shares: Mapping[Kind, float], in_use: Calibration | None, fitted: Calibration
) -> LaterFigures:
    """Returns where the fusion puts the chosen entries of later questions, by both calibrations.

    Args:
        questions: that neither was fitted to.
        shares: of the entries of the index by kind.
        in_use: the calibration in use; None: searches compare channels without labels.
        fitted: the new one.
    """
    base, new = (float(_reciprocal_ranks(questions, shares, calibration).mean()) for calibration in (in_use, fitted))
    return LaterFigures(len(questions), base, new)


def shares_of_index(store: EntrySearch, tenants: Iterable[str]) -> dict[Kind, float]:
    """Returns the share of the assets of some tenants that become hits of each kind."""
    counts: dict[Kind, int] = defaultdict(int)
    for collection in dict.fromkeys(channel.collection for channel in sorted(store.channels(), key=str)):
        for tenant in sorted(set(tenants)):
            counts[kind_of(collection)] += store.assets_in(collection, Access.to_all_of(tenant))
    total = sum(counts.values())
    return {kind: count / total for kind, count in counts.items()} if total else {}


def _asked(choices: Sequence[Choice]) -> list[AskedQuestion]:
    """Returns the distinct questions of choices, each with all entries that were chosen for it."""
    right: dict[tuple[str, str], set[str]] = defaultdict(set)
    texts: dict[tuple[str, str], str] = {}
    for choice in choices:
        name = choice.asset.tenant, choice.question
        right[name].add(choice.entry_id)
        texts[name] = choice.text
    return [AskedQuestion(texts[name], name[0], name[1], frozenset(ids)) for name, ids in right.items()]


def _rankings(
    by_channel: Mapping[Channel, Sequence[ScoredEntry]], plans: Sequence[ChannelQuery], question: AskedQuestion
) -> Rankings:
    spaces = {plan.channel: plan.space for plan in plans}
    encoders = {plan.channel: plan.encoder for plan in plans}
    return Rankings(by_channel, {}, dict.fromkeys(Collection, DEPTH), spaces, encoders, question.text)


def _reciprocal_ranks(
    questions: Sequence[LabelledQuestion], shares: Mapping[Kind, float], calibration: Calibration | None
) -> npt.NDArray[np.float64]:
    fusion = open_fusion(FuseOptions(), calibration, shares)
    values = np.zeros(len(questions))
    for place, question in enumerate(questions):
        ranked = fusion.rank(question.rankings, MOMENTS, CUT)
        ranks = [rank for rank, (_, hit) in enumerate(ranked, start=1) if hit.best.id in question.right]
        values[place] = 1 / ranks[0] if ranks else 0.0
    return values
