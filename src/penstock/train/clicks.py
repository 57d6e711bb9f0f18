"""Fits to what people chose: the click channel of a calibration, and pairs to train adapters with.

Choices are divided by time: the earlier ones are the memory, and the later ones are judged by it. A later choice that
repeats an earlier one, in the same words of the same asset, says nothing new and is left out.

    choices = read_choices(settings)                  from the click memory, with vectors
    past, future = split_by_time(choices)
    channel = fit_click_channel(past, future, encoder)
    write_pairs(choice_pairs(choices, read), file)    the format of `penstock train adapter --pairs`
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.query.clicks.recall import MAX_RECALLED
from penstock.query.fusion.calibration import ChannelCalibration
from penstock.records import Action, Choice, Entry, Float32
from penstock.train.fitting import fit_logistic_map
from penstock.train.labels import MIN_LABELS

PAST_SHARE = 0.6
MIN_RIGHT = 5
"""Later questions whose chosen entry the memory recalls, below which a fit follows chance."""
EXACT = "exact scores"


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """A question, and the entries that were right for it.

    Attributes:
        vector: float32[dim], L2-normalised.
        tenant: of the question.
        right: ids of entries.
        digest: of its words, as `Choice.question`; what was chosen for these very words does not judge the memory.
    """

    vector: Float32
    tenant: str
    right: frozenset[str]
    digest: str


def counted(choices: Iterable[Choice]) -> list[Choice]:
    """Returns the choices that were not taken back, the earliest first."""
    kept = (choice for choice in choices if choice.action is not Action.DISLIKE)
    return sorted(kept, key=lambda choice: (choice.time_ms, choice.id))


def split_by_time(choices: Iterable[Choice], share: float = PAST_SHARE) -> tuple[list[Choice], list[Choice]]:
    """Returns the earlier choices, and the later ones that do not repeat one of them."""
    ordered = counted(choices)
    cut = round(share * len(ordered))
    past = ordered[:cut]
    known = {(choice.question, choice.asset) for choice in past}
    return past, [choice for choice in ordered[cut:] if (choice.question, choice.asset) not in known]


def judged_questions(choices: Iterable[Choice]) -> list[JudgedQuestion]:
    """Returns the distinct questions of choices, each with all entries that were chosen for it."""
    right: dict[tuple[str, str], set[str]] = defaultdict(set)
    vectors: dict[tuple[str, str], Float32] = {}
    for choice in choices:
        name = choice.asset.tenant, choice.question
        right[name].add(choice.entry_id)
        vectors[name] = choice.vector
    return [JudgedQuestion(vectors[name], name[0], frozenset(ids), name[1]) for name, ids in right.items()]


def fit_click_channel(past: Sequence[Choice], judged: Sequence[JudgedQuestion], encoder: str) -> ChannelCalibration:
    """Fits how likely an entry is right, given the cosine of its closest remembered question.

    Args:
        past: the memory, with vectors.
        judged: later questions. Those whose right entries were never chosen belong to them: without these the memory
            would look better than it is.
        encoder: of the questions, to be recorded.

    Raises:
        UsageError: there are too few questions.
    """
    pairs = [recalled_scores(past, question) for question in judged]
    scores = np.array([score for of_question in pairs for score, _ in of_question], np.float64)
    right = np.array([is_right for of_question in pairs for _, is_right in of_question], np.bool_)
    if len(judged) < MIN_LABELS or right.sum() < MIN_RIGHT:
        raise UsageError(
            f"{len(judged)} later questions, of which the memory recalls the chosen entry {int(right.sum())} times, "
            f"are too few to fit to: it takes {MIN_LABELS} and {MIN_RIGHT}. Choices do not count until there are more"
        )
    absent = float(np.log(0.5 / (len(right) + 0.5)))
    return ChannelCalibration(
        fit_logistic_map(scores, right), absent, float(scores.mean()), float(scores.std()), encoder, EXACT
    )


def recalled_scores(past: Sequence[Choice], question: JudgedQuestion) -> list[tuple[float, bool]]:
    """Returns, for each entry that the memory recalls, the cosine of its closest question and whether it is right.

    Choices for the very same words are left out: later ones of the same assets were left out as repetitions, so that
    only those of other assets are known, and an exact match would count as wrong.
    """
    own = [choice for choice in past if choice.asset.tenant == question.tenant and choice.question != question.digest]
    if not own:
        return []
    cosines: npt.NDArray[np.float64] = np.asarray(np.stack([choice.vector for choice in own]) @ question.vector)
    best: dict[str, float] = {}
    for place in np.argsort(-cosines, kind="stable")[:MAX_RECALLED].tolist():
        best.setdefault(own[place].entry_id, float(cosines[place]))
    return [(cosine, entry_id in question.right) for entry_id, cosine in best.items()]


def choice_pairs(
    choices: Iterable[Choice], read_entries: Callable[[str, Sequence[str]], Mapping[str, Entry]]
) -> Iterator[Mapping[str, object]]:
    """Yields the choices whose words were kept and whose entry has words, as pairs, the earliest first.

    Args:
        choices: with `text`.
        read_entries: returns entries of a tenant by id, as they are now.
    """
    with_words = [choice for choice in counted(choices) if choice.text]
    ids: dict[str, list[str]] = defaultdict(list)
    for choice in with_words:
        ids[choice.asset.tenant].append(choice.entry_id)
    entries = {tenant: read_entries(tenant, list(dict.fromkeys(of_tenant))) for tenant, of_tenant in ids.items()}
    for choice in with_words:
        entry = entries[choice.asset.tenant].get(choice.entry_id)
        if entry is not None and entry.text.strip():
            yield {
                "question": choice.text,
                "text": entry.text,
                "tenant": choice.asset.tenant,
                "time": choice.time_ms / 1000,
            }


def write_pairs(pairs: Iterable[Mapping[str, object]], file: Path) -> int:
    """Writes pairs, one JSON object a line, and returns how many there were."""
    lines = [json.dumps(pair, ensure_ascii=False) for pair in pairs]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)
