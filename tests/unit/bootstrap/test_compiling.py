"""From the file to what the data plane decides by: what is declared is what is routed by, and nothing is invented."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securellm.bootstrap.compiling import compile_snapshot
from securellm.bootstrap.config import load_config
from securellm.core.capabilities import Capability
from securellm.core.errors import Refusal
from securellm.core.surfaces import Surface
from securellm.finops import shipped
from securellm.gateway.snapshot import ServedModel
from securellm.identity import KeyTable
from securellm.providers.registry import KINDS
from securellm.routing import plan, spelled

HEAD = """\
[[providers]]
id = "near"
kind = "openai"
credential = "env:KEY"

[[providers]]
id = "far"
kind = "anthropic"
credential = "env:KEY"

"""
KINDS_OF = {"near": "openai", "far": "anthropic"}
BOOK = shipped()


def toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value)


def served(folder: Path, models: list[dict[str, Any]]) -> Mapping[str, ServedModel]:
    text = HEAD + "".join(
        "[[models]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in model.items()) for model in models
    )
    path = folder / "securellm.toml"
    path.write_text(text)
    config = load_config(path, environ={"KEY": "sk-provider-credential"}, provider_kinds=KINDS, book=BOOK).config
    return compile_snapshot(config, KeyTable.of([]), BOOK, now_us=0).models


@pytest.mark.requirement("PR-6")
def test_a_route_says_more_than_its_model_and_silence_is_not_a_declaration(tmp_path: Path) -> None:
    models = served(
        tmp_path,
        [
            {
                "name": "declared",
                "capabilities": ["tools", "vision"],
                "max_output": 1000,
                "route": [
                    {"provider": "near", "model": "a"},
                    {"provider": "near", "model": "b", "capabilities": [], "max_output": 2000},
                ],
            },
            {"name": "silent", "route": [{"provider": "far", "model": "a"}]},
        ],
    )
    assert [(place.offers, place.max_output) for place in models["declared"].candidates] == [
        (frozenset({Capability.TOOLS, Capability.VISION}), 1000),
        (frozenset(), 2000),
    ]
    assert [(place.offers, place.max_output) for place in models["silent"].candidates] == [(None, None)]


@pytest.mark.requirement("PR-6")
def test_the_cap_set_for_a_caller_who_sets_none_is_one_that_every_route_can_write(tmp_path: Path) -> None:
    route = [{"provider": "near", "model": "a"}, {"provider": "near", "model": "b", "max_output": 300}]
    models = served(
        tmp_path,
        [
            {"name": "small", "route": route},
            {"name": "smaller", "route": route, "default_max_output": 200},
            {"name": "large", "route": route[:1], "max_output": 9000},
        ],
    )
    assert [model.default_max_output for model in models.values()] == [300, 200, 4096]


CAPABILITIES = st.lists(st.sampled_from(["tools", "vision", "reasoning"]), unique=True)
ROUTES = st.lists(
    st.fixed_dictionaries(
        {"provider": st.sampled_from(["near", "far"]), "model": st.sampled_from(["m", "org/m", "n:free"])},
        optional={"capabilities": CAPABILITIES, "max_output": st.integers(1, 9)},
    ),
    min_size=1,
    max_size=4,
)
MODELS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["m", "one", "near/m", "org/m"]), "route": ROUTES},
        optional={"capabilities": CAPABILITIES, "max_output": st.integers(1, 9)},
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda model: model["name"],
)


def said(row: dict[str, Any], model: dict[str, Any], key: str) -> Any:
    return row.get(key, model.get(key))


def able(row: dict[str, Any], model: dict[str, Any], *, needs: set[str], output_cap: int | None) -> bool:
    offers, most = said(row, model, "capabilities"), said(row, model, "max_output")
    return (offers is None or needs <= set(offers)) and (output_cap is None or most is None or output_cap <= most)


@pytest.mark.requirement("RT-4", "PR-6")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    declared=MODELS,
    needs=st.sets(st.sampled_from(["tools", "vision", "reasoning"])),
    output_cap=st.none() | st.integers(1, 9),
    surface=st.sampled_from([Surface.CHAT, Surface.MESSAGES, Surface.EMBEDDINGS]),
    translatable=st.lists(st.sampled_from([Surface.CHAT, Surface.MESSAGES]), unique=True),
)
def test_the_plan_of_any_configuration_follows_from_its_text(
    tmp_path: Path,
    declared: list[dict[str, Any]],
    needs: set[str],
    output_cap: int | None,
    surface: Surface,
    translatable: list[Surface],
) -> None:
    """The rows of the file alone say which lines the explanation has, and these which attempts the plan makes."""
    models = served(tmp_path, declared)
    for model in declared:
        attempts = []
        lines = []
        for row in model["route"]:
            kind = KINDS[KINDS_OF[row["provider"]]]
            spoken = next((one for one in (surface, *translatable) if one in kind.surfaces), None)
            where = f"{row['provider']}/{row['model']}"
            if spoken is None:
                lines.append(f"{where}: left out, does not speak {surface}")
            elif able(row, model, needs=needs, output_cap=output_cap):
                attempts.append((row["provider"], row["model"], spoken))
                lines.append(f"{where}: in order" + ("" if spoken == surface else f", translated to {spoken}"))
            else:
                lines.append(f"{where}: left out, ")
        attempts.sort(key=lambda attempt: attempt[2] != surface)
        try:
            made = plan(
                model["name"],
                surface,
                candidates=models[model["name"]].candidates,
                needs=frozenset(map(Capability, needs)),
                output_cap=output_cap,
                translatable=translatable,
            )
        except Refusal:
            assert attempts == []
            continue
        assert [(one.provider, one.upstream_model, one.surface) for one in made.attempts] == attempts
        for line, expected in zip(made.explanation, lines, strict=True):
            assert line.startswith(expected) if expected.endswith(", ") else line == expected


@pytest.mark.requirement("RT-5")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(declared=MODELS, provider=st.sampled_from(["near", "far", "org"]), rest=st.sampled_from(["m", "one", "org/m"]))
def test_a_spelled_pin_of_any_configuration_is_served_there_or_means_no_model(
    tmp_path: Path, declared: list[dict[str, Any]], provider: str, rest: str
) -> None:
    models = served(tmp_path, declared)
    routes = {name: model.candidates for name, model in models.items()}
    name, pinned = spelled(f"{provider}/{rest}", known_models=models.keys(), routes=routes)
    if pinned is not None:
        rows = next(model["route"] for model in declared if model["name"] == name)
        assert pinned == provider
        assert any(row["provider"] == provider and rest in (name, row["model"]) for row in rows)
    else:
        assert name == f"{provider}/{rest}"
