"""The registry: one row a kind, and no other source file that names one."""

import ast
from pathlib import Path

import pytest

import securellm
from securellm.core.surfaces import KEPT, Surface
from securellm.providers import DEMO_KIND, DIALECTS, ERRANDS, KINDS
from securellm.transport import parse_base_url

SOURCE = Path(securellm.__file__).parent
OWN = {"providers/registry.py"} | {f"providers/{kind.replace('-', '_')}.py" for kind in KINDS}
GENERATING = (
    Surface.CHAT,
    Surface.RESPONSES,
    Surface.MESSAGES,
    Surface.GENERATE_CONTENT,
    Surface.OLLAMA_CHAT,
    Surface.OLLAMA_GENERATE,
)
ISSUERS = {"guard/detectors.py"}
"""Names who issued a leaked key by its shape, whether or not anything is sent there."""


def names_in(path: Path) -> set[str]:
    """The kinds and their hosts that the code of a file spells out; prose (docstrings, help texts) aside."""
    hosts = {row.default_base_url.split("/")[2] for row in KINDS.values() if row.default_base_url}
    tree = ast.parse(path.read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in strings if text.lower() in KINDS or any(host in text for host in hosts)}


@pytest.mark.requirement("PR-7")
def test_no_other_source_file_names_a_provider() -> None:
    named = {
        str(path.relative_to(SOURCE)): names
        for path in SOURCE.rglob("*.py")
        if (names := names_in(path)) and str(path.relative_to(SOURCE)) not in OWN | ISSUERS
    }
    assert named == {}


@pytest.mark.requirement("PR-1")
def test_the_promised_kinds_are_there() -> None:
    promised = {"openai", "anthropic", "gemini", "xai", "deepseek", "ollama", "openai-compatible", "mock"}
    assert promised == set(KINDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_row_is_whole(kind: object) -> None:
    row = KINDS[getattr(kind, "kind", "")]
    assert row.surfaces
    assert set(row.surfaces) - KEPT <= set(DIALECTS)
    assert set(row.surfaces) & KEPT <= {errand.surface for errand in ERRANDS.values()}
    if row.default_base_url is not None:
        parse_base_url(row.default_base_url)
    for surface in row.surfaces:
        assert row.surfaces[surface].startswith(("/", "../"))
        if surface in GENERATING:
            assert row.cap_fields[surface]
    assert set(row.stream_paths) <= set(row.surfaces)
    for name in (*row.extra_headers, *row.forwarded_headers):
        assert name == name.lower()


def test_only_the_mock_is_for_demonstration() -> None:
    assert [row.kind for row in KINDS.values() if row.demo_only] == ["mock"]
    assert DEMO_KIND is KINDS["mock"]
