"""The Hugging Face hub: its cache first, then the network, with one clear line when it is unavailable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from penstock.errors import ConfigError, UnavailableError, first_line

_T = TypeVar("_T")

# The hub's client waits 5 s for each of the host's addresses, of which there may be eight: a user should not have to
# wait longer than this for the message that there is no network.
_DEADLINE_S = 10.0
_REQUEST_S = 5.0


def cached_folder(repo: str, name: str, revision: str | None = None) -> Path | None:
    """Returns the folder of the cached snapshot that has this file at its top, if there is one. Makes no request.

    By file, because the client takes a snapshot that was fetched in part, as ours are, for an incomplete one.
    """
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, name, revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def fetch(
    repo: str,
    weights: Sequence[str],
    patterns: Sequence[str],
    model: str,
    alternative: str,
    *,
    revision: str | None = None,
) -> Path:
    """Downloads a repository's files into the hub's cache, with a progress bar.

    Args:
        repo: `organisation/name`.
        weights: names that the file of weights may have; the first that the repository has is fetched, and no other.
        patterns: further files, as fnmatch patterns.
        model: the model's name, for messages.
        alternative: what else a user can do, for messages.
        revision: the commit to fetch; None: the newest of the main branch.

    Returns:
        the folder of the snapshot.

    Raises:
        ConfigError: the repository does not exist or is closed to this user, or the hub is switched off.
        UnavailableError: the hub does not answer.
    """
    from huggingface_hub import snapshot_download

    names = _within_deadline(lambda: _names_in(repo, revision), repo, model, alternative)
    chosen = [name for name in weights if name in names][:1]
    return Path(
        _with_own_errors(
            lambda: snapshot_download(
                repo, revision=revision, allow_patterns=[*chosen, *patterns], etag_timeout=_REQUEST_S
            ),
            repo,
            model,
            alternative,
        )
    )


def _names_in(repo: str, revision: str | None) -> frozenset[str]:
    from huggingface_hub import HfApi

    siblings = HfApi().model_info(repo, revision=revision, timeout=_REQUEST_S).siblings or ()
    return frozenset(sibling.rfilename for sibling in siblings)


def _within_deadline(call: Callable[[], _T], repo: str, model: str, alternative: str) -> _T:
    """Runs the call with one deadline over name resolution and all addresses, which the client does not offer."""
    outcomes: list[_T | Exception] = []

    def run() -> None:
        try:
            outcomes.append(_with_own_errors(call, repo, model, alternative))
        except Exception as exc:  # handed to the caller's thread
            outcomes.append(exc)

    thread = threading.Thread(target=run, name="hub", daemon=True)
    thread.start()
    thread.join(_DEADLINE_S)
    if not outcomes:
        raise UnavailableError(_message(repo, model, alternative, f"gave no answer within {_DEADLINE_S:.0f} s"))
    if isinstance(outcomes[0], Exception):
        raise outcomes[0]
    return outcomes[0]


def _with_own_errors(call: Callable[[], _T], repo: str, model: str, alternative: str) -> _T:
    from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        return call()
    except RepositoryNotFoundError as exc:  # also raised for a gated or private one
        raise ConfigError(
            f"{model}: the hub has no repository {repo} that is open to you; log in with `hf auth login` {alternative}"
        ) from exc
    except OfflineModeIsEnabled as exc:
        raise ConfigError(_message(repo, model, alternative, "is switched off (HF_HUB_OFFLINE)")) from exc
    except Exception as exc:  # the client's own network errors: their library changed with each of its majors
        failure = f"does not answer ({first_line(exc)})"
        raise UnavailableError(_message(repo, model, alternative, failure)) from exc


def _message(repo: str, model: str, alternative: str, failure: str) -> str:
    from huggingface_hub import constants

    return (
        f"{model}: its weights ({repo}) are not in the cache {constants.HF_HUB_CACHE}, and the hub "
        f"{constants.ENDPOINT} {failure}. Connect, or run `hf download {repo}` on a machine with a network and point "
        f"HF_HOME to that cache, {alternative}."
    )
