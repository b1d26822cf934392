"""Pure decisions about pins: the one provider a caller accepts, named in a header or in the model's name."""

from collections.abc import Collection, Mapping, Sequence

from securellm.core.errors import Code, Refusal
from securellm.routing.model import Candidate


def spelled(
    name: str, *, known_models: Collection[str], routes: Mapping[str, Sequence[Candidate]]
) -> tuple[str, str | None]:
    """The model that `name` means, and the provider it pins, if any.

    A model's own name wins, slashes and all. Otherwise `provider/model` pins a provider: `model` is the name of a
    model that it serves, or the name by which it alone knows exactly one model. Anything else is returned as it is,
    for the allow-list to refuse.
    """
    provider, slash, rest = name.partition("/")
    if name in known_models or not slash:
        return name, None
    if any(candidate.provider == provider for candidate in routes.get(rest, ())):
        return rest, provider
    meant = [
        model
        for model, candidates in routes.items()
        if any(candidate.provider == provider and candidate.upstream_model == rest for candidate in candidates)
    ]
    return (meant[0], provider) if len(meant) == 1 else (name, None)


def pinned_of(header: str | None, in_name: str | None) -> str | None:
    """The one provider the caller accepts. Raises `Refusal` (INVALID_HEADER) when two different ones are pinned."""
    if header is not None and in_name is not None and header != in_name:
        raise Refusal(
            Code.INVALID_HEADER, "x-provider and the model's name pin different providers", param="x-provider"
        )
    return header if header is not None else in_name
