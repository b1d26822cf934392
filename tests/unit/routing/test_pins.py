"""The provider a caller pins: by header or by the model's name, kept or refused, never ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.routing import Candidate, pinned_of, plan, spelled


def place(provider: str, upstream_model: str) -> Candidate:
    return Candidate(provider=provider, upstream_model=upstream_model, surfaces=frozenset({Surface.CHAT}))


ROUTES = {
    "fast": [place("openai", "gpt-4o-mini"), place("azure", "deployment-7")],
    "smart": [place("openai", "gpt-5"), place("azure", "gpt-5")],
    "smart-eu": [place("azure", "gpt-5")],
    "mock/echo": [place("mock", "echo")],
    "meta-llama/llama": [place("vllm", "meta-llama/Llama-3.1-8B-Instruct")],
    "openai/special": [place("azure", "special")],
}


def meant(name: str) -> tuple[str, str | None]:
    return spelled(name, known_models=ROUTES.keys(), routes=ROUTES)


@pytest.mark.requirement("RT-5")
@pytest.mark.parametrize(
    ("name", "model", "pinned"),
    [
        ("fast", "fast", None),
        ("mock/echo", "mock/echo", None),
        ("meta-llama/llama", "meta-llama/llama", None),
        # A model's own name wins, whatever provider it reads like.
        ("openai/special", "openai/special", None),
        ("openai/fast", "fast", "openai"),
        ("azure/fast", "fast", "azure"),
        ("mock/mock/echo", "mock/echo", "mock"),
        ("vllm/meta-llama/llama", "meta-llama/llama", "vllm"),
        # By the provider's own name for it.
        ("openai/gpt-4o-mini", "fast", "openai"),
        ("azure/deployment-7", "fast", "azure"),
        ("openai/gpt-5", "smart", "openai"),
        ("vllm/meta-llama/Llama-3.1-8B-Instruct", "meta-llama/llama", "vllm"),
    ],
)
def test_a_name_means_a_model_and_perhaps_a_provider(name: str, model: str, pinned: str | None) -> None:
    assert meant(name) == (model, pinned)


@pytest.mark.requirement("RT-5")
@pytest.mark.parametrize(
    "name",
    [
        "nobody/fast",
        "openai/smart-eu",
        "openai/nothing",
        "azure/gpt-5",  # Two models are served by that name there.
        "OpenAI/fast",
        "openai/",
        "/fast",
        "/",
        "openai/openai/fast",
        "openai /fast",
        "",
        "gpt-5",
    ],
)
def test_a_name_that_means_nothing_certain_stays_as_it_is_for_the_allow_list_to_refuse(name: str) -> None:
    assert meant(name) == (name, None)
    assert name not in ROUTES


@pytest.mark.requirement("RT-5")
def test_header_and_name_may_agree_but_not_contradict() -> None:
    assert pinned_of(None, None) is None
    assert pinned_of("openai", None) == pinned_of(None, "openai") == pinned_of("openai", "openai") == "openai"
    for header in ("azure", "OPENAI", ""):
        with pytest.raises(Refusal) as refused:
            pinned_of(header, "openai")
        assert (refused.value.code, refused.value.param) == (Code.INVALID_HEADER, "x-provider")
    assert pinned_of("", None) == "", "an empty header is a pin that nothing can keep, not the lack of one"


NAMES = st.sampled_from(["a", "b", "a/b", "b/a", "a/a/b", "a/", "x"])
PROVIDERS = st.sampled_from(["a", "b"])
TABLES = st.dictionaries(NAMES, st.lists(st.builds(place, PROVIDERS, NAMES), min_size=1, max_size=3), max_size=4)


@pytest.mark.requirement("RT-5")
@given(name=NAMES, routes=TABLES)
def test_a_spelled_pin_is_always_one_that_the_model_can_keep(name: str, routes: dict[str, list[Candidate]]) -> None:
    model, pinned = spelled(name, known_models=routes.keys(), routes=routes)
    if name in routes:
        assert (model, pinned) == (name, None)
    elif pinned is None:
        assert model == name
    else:
        assert name.startswith(f"{pinned}/")
        made = plan(model, Surface.CHAT, candidates=routes[model], pinned=pinned)
        assert {attempt.provider for attempt in made.attempts} == {pinned}
        assert name.removeprefix(f"{pinned}/") in (model, *(attempt.upstream_model for attempt in made.attempts))
