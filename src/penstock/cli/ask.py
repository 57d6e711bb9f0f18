"""`penstock ask`: puts a question to the running query plane, and shows the answer with its sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.answer_view import show_answer, show_stream
from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.query_parts import AudioOption, ImageOption, read_file
from penstock.cli.render import print_json, print_text
from penstock.cli.search import FilterOption, ModalityOption, WhereOption, joined_filter

if TYPE_CHECKING:
    from penstock.client import AnswerJson, AskOptionsJson

ABSTAINED = 3
"""The exit code where the sources do not answer the question."""

_AfterOption = Annotated[
    list[str] | None,
    typer.Option("--after", metavar="TEXT", help="A question before this one, which it follows. Repeatable, in order."),
]
_GeneratorOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="auto, extractive (sentences of the sources) or the model's name.")
]
_MaxSourcesOption = Annotated[int | None, typer.Option("--max-sources", metavar="N", help="Maximum number of sources.")]
_TenantOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Answer from entries of this tenant. Default: the configured tenant.")
]
_LanguageOption = Annotated[
    str | None, typer.Option("--answer-in", metavar="LANGUAGE", help="Language of the answer, such as de.")
]
_StreamOption = Annotated[
    bool, typer.Option("--stream/--no-stream", help="Show the answer while it is written, or when it is complete.")
]
_ShowPromptOption = Annotated[
    bool, typer.Option("--show-prompt", help="Print what the generator reads for this question, instead of the answer.")
]
_UrlOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Address of the query plane. Default: the one that runs here.")
]


def ask(
    context: typer.Context,
    question: Annotated[str | None, typer.Argument(metavar="QUESTION", help="The question in words.")] = None,
    *,
    image: ImageOption = None,
    audio: AudioOption = None,
    after: _AfterOption = None,
    modality: ModalityOption = None,
    filter_json: FilterOption = None,
    where: WhereOption = None,
    tenant: _TenantOption = None,
    generator: _GeneratorOption = None,
    max_sources: _MaxSourcesOption = None,
    answer_in: _LanguageOption = None,
    stream: _StreamOption = True,
    show_prompt: _ShowPromptOption = False,
    url: _UrlOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask a question, and get an answer from the index whose sentences cite their sources.

    Each sentence is checked against the sources before it is shown; what they do not say is left out. Exits with 3 if
    the sources do not answer the question.
    """
    from penstock.client import PenstockClient, key_source, query_url, tenant_to_send
    from penstock.errors import UsageError
    from penstock.observability import tracing

    settings = read_settings(context)
    if question is None and audio is None:
        raise UsageError('give a question: in words (`penstock ask "what do herons eat?"`) or spoken (--audio FILE)')
    limits = settings.query
    image_data = None if image is None else read_file(image, "image", limits.max_image_bytes)
    voice = None if audio is None else read_file(audio, "audio file", limits.max_audio_bytes)
    options = _options(after, generator, max_sources, answer_in, explain=show_prompt)
    if modality:
        options["modalities"] = modality
    if (condition := joined_filter(filter_json, where or [])) is not None:
        options["filter"] = condition
    tracing.connect(settings, "ask")
    address = url or query_url(settings)
    api_key, named = key_source(address, settings), tenant_to_send(tenant, address, settings)
    with PenstockClient(address, tenant=named, api_key=api_key, ca_file=settings.query.ca_file) as client:
        if stream and not as_json and not show_prompt:
            answer = show_stream(client.ask_stream(question, image=image_data, audio=voice, **options), address)
        else:
            answer = client.ask(question, image=image_data, audio=voice, **options)
            _show(answer, address, as_json=as_json, prompt=show_prompt)
    if answer["abstained"] and not show_prompt:
        raise typer.Exit(ABSTAINED)


def _options(
    after: Sequence[str] | None, generator: str | None, max_sources: int | None, answer_in: str | None, *, explain: bool
) -> AskOptionsJson:
    """Returns the options that were given, which the query plane checks."""
    options: AskOptionsJson = {}
    if after:
        options["messages"] = [{"role": "user", "content": text} for text in after]
    if generator is not None:
        options["generator"] = generator
    if max_sources is not None:
        options["max_sources"] = max_sources
    if answer_in is not None:
        options["answer_in"] = answer_in
    if explain:
        options["explain"] = True
    return options


def _show(answer: AnswerJson, url: str, *, as_json: bool, prompt: bool) -> None:
    if prompt:
        print_text(answer["prompt"] or "")
    elif as_json:
        print_json(answer)
    else:
        show_answer(answer, url)
