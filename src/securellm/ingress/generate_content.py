"""Google's generation of content, as a client asks (POST /v1beta/models/{model}:generateContent, or /v1)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.contents import SHAPE, Heard, count, hear, listed, mapping, snake, taken
from securellm.ingress.facts import Members
from securellm.ingress.leaves import collect
from securellm.ingress.needs import generate_content_needs

SURFACE = Surface.GENERATE_CONTENT

_CALLED_BY_CALLER = frozenset({"function_declarations", "computer_use"})
"""The tools whose calls the caller runs: they cost tokens only."""
_PER_CONTENT = 8
_PER_TOOLS = 1_000


def extract(document: Document, headers: Mapping[str, str], *, model: str, stream: bool) -> Request:
    """The facts of a generation, whose model and streaming the path names.

    Raises Refusal(INVALID_REQUEST) naming the field.
    """
    members = document.members()
    contents = listed(members, "contents", required=True)
    config = mapping(members, "generationConfig")
    tools = listed(members, "tools")
    texts = collect(members, SHAPE)
    heard = hear([*contents, mapping(members, "systemInstruction")])
    uses = server_tools(tools)
    kept = kept_by_provider(members, tools, heard)
    choices = count(config, "candidateCount", largest=128) or 1
    made = taken(config, "responseModalities")
    modalities = {str(each).upper() for each in made} if isinstance(made, list) else set()
    return Request(
        document=document,
        model=model,
        stream=stream,
        wants_usage=True,
        leaves=texts.leaves,
        message_count=len(contents),
        images=heard.images,
        histories=kept,
        estimate=Estimate(
            input_tokens=texts.bytes + _PER_CONTENT * (len(contents) + 2) + (_PER_TOOLS if tools else 0),
            output_cap=count(config, "maxOutputTokens"),
            choices=choices,
            whole_context=heard.unseen or bool(kept) or bool(uses),
            features=("responseModalities",) if modalities - {"TEXT", "AUDIO", "MODALITY_UNSPECIFIED"} else (),
            audio_input=heard.audio,
            audio_output="AUDIO" in modalities or taken(config, "speechConfig") is not None,
            cache_writes=False,
            server_tool_uses=uses,
            service_tier=facts.text({"serviceTier": taken(members, "serviceTier")}, "serviceTier", default="") or None,
        ),
        needs=generate_content_needs(members),
        deterministic=facts.is_zero(config.get("temperature")) and choices == 1 and not (tools or kept or heard.unseen),
        cache_control=headers.get("x-securellm-cache", ""),
    )


def server_tools(tools: list[Members]) -> tuple[tuple[str, int | None], ...]:
    """The tools that the provider itself runs; how often, it decides."""
    names = dict.fromkeys(snake(name) for tool in tools for name, given in tool.items() if given is not None)
    return tuple((name, None) for name in names if name not in _CALLED_BY_CALLER)


def kept_by_provider(members: Members, tools: list[Members], heard: Heard) -> tuple[str, ...]:
    """Names of what the provider keeps and would fetch with the operator's credential, whoever put it there."""
    cached = taken(members, "cachedContent")
    names = [*heard.kept, *([cached] if isinstance(cached, str) else [])]
    for tool in tools:
        stores = taken(mapping(tool, "fileSearch"), "fileSearchStoreNames")
        names += [name for name in (stores if isinstance(stores, list) else [stores]) if isinstance(name, str)]
    return tuple(dict.fromkeys(names))
