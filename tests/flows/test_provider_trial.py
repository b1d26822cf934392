"""`securellm provider test` makes one governed call, and leaves nothing behind but its records."""

import asyncio
from pathlib import Path

import pytest
from tests.flows.inprocess import application
from tests.harness import Site
from tests.upstream import Behaviour, FakeUpstream

from securellm.bootstrap.trial import BODIES, Trial, try_provider
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import KEPT, Surface
from securellm.providers import KINDS

_KIND = {"compatible": "openai-compatible"}
"""Of a test site's provider that is not called as its kind is."""


def tried(directory: Path, upstream: FakeUpstream, provider: str, **which: str | Surface | None) -> Trial:
    site = Site(upstream.root)
    site.tenant("acme", budget="1.00 USD")
    for served in ("gemini", "ollama", "compatible"):
        site.model(f"of/{served}", served)
    with application(directory, site) as app:
        trial = asyncio.run(try_provider(app, provider, **which))  # type: ignore[arg-type]
        assert app.finops.snapshot().holds == ()
        assert all(key.revoked_us is not None for key in app.control.read(app.keyring.page))
    return trial


@pytest.mark.parametrize(
    ("provider", "model", "surface"),
    [
        ("openai", "chat", Surface.CHAT),
        ("anthropic", "messages", Surface.MESSAGES),
        ("openai", "embed", Surface.EMBEDDINGS),
    ],
)
def test_a_provider_that_answers_says_what_it_serves(
    tmp_path: Path, provider: str, model: str, surface: Surface
) -> None:
    with FakeUpstream().in_thread() as upstream:
        trial = tried(tmp_path, upstream, provider, model=model, surface=surface)

    assert (trial.status, trial.provider, trial.model, trial.surface) == (200, provider, model, surface)
    assert trial.headers["x-securellm-provider"] == provider


@pytest.mark.parametrize("surface", BODIES)
def test_every_surface_has_a_request_that_its_provider_answers(tmp_path: Path, surface: Surface) -> None:
    providers = ("openai", "anthropic", "gemini", "ollama", "compatible")
    provider = next(name for name in providers if surface in KINDS[_KIND.get(name, name)].surfaces)
    with FakeUpstream().in_thread() as upstream:
        trial = tried(tmp_path, upstream, provider, surface=surface)

    assert (trial.status, trial.surface) == (200, surface), trial.body


def test_only_pictures_sound_and_what_names_no_model_cannot_be_tried() -> None:
    untried = set(Surface) - set(BODIES) - KEPT
    assert {surface.value for surface in untried} == {
        "images",
        "image_edits",
        "speech",
        "transcriptions",
        "audio_translations",
    }


def test_a_provider_that_refuses_its_credential_is_told_apart(tmp_path: Path) -> None:
    with FakeUpstream().in_thread() as upstream:
        upstream.default = Behaviour(status=401)
        trial = tried(tmp_path, upstream, "openai")

    assert trial.status == 502
    assert trial.headers["x-securellm-code"] == Code.AUTH_ERROR


@pytest.mark.parametrize(("provider", "code"), [("nobody", Code.NOT_FOUND), ("xai", Code.NO_ROUTE)])
def test_a_provider_without_a_way_to_it_is_refused(tmp_path: Path, provider: str, code: Code) -> None:
    with FakeUpstream().in_thread() as upstream, pytest.raises(Refusal) as refused:
        tried(tmp_path, upstream, provider)

    assert refused.value.code is code
