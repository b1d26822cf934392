"""What a person's browser shows when a login fails, and what a program is told of the same."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

import pytest
from tests.unit.admin.driver import Answer, Desk

from securellm.admin.browsing import ProblemPage, prefers_page
from securellm.core.errors import Code, Fault

CALLBACK = "/admin/v1/login/callback"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

pytestmark = pytest.mark.requirement("ID-3")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def visit(desk: Desk, path: str, *, query: str = "", accept: str = BROWSER, language: str = "en") -> Answer:
    return desk.call("GET", path, query=query, headers=[("accept", accept), ("accept-language", language)])


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        (CALLBACK, "code=c&state=s", 401, Code.ADMIN_REQUIRED),
        (CALLBACK, "error=access_denied&state=s", 401, Code.ADMIN_REQUIRED),
        ("/admin/v1/login", "issuer=nobody", 404, Code.NOT_FOUND),
        ("/admin/v1/login", "", 422, Code.INVALID_REQUEST),
    ],
)
def test_a_browser_is_shown_a_page_and_a_program_the_problem(
    desk: Desk, path: str, query: str, status: int, code: Code
) -> None:
    page = visit(desk, path, query=query)
    problem = visit(desk, path, query=query, accept="*/*")
    assert page.status == problem.status == status
    assert problem.headers["content-type"] == "application/problem+json"
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["content-language"] == "en"
    text = page.body.decode()
    for said in (problem.json["detail"], problem.json["remedy"], code.value, page.headers["x-request-id"]):
        assert f"<dd>{escape(said)}</dd>" in text
    assert not any(mark in text for mark in ("<script", "style", "src=", "href=", "http://", "https://"))
    assert [seen for seen, _ in desk.unknown] == [code, code]


def test_the_page_is_in_the_language_of_the_browser(desk: Desk) -> None:
    page = visit(desk, CALLBACK, language="pt-BR,pt;q=0.9,en;q=0.8")
    assert page.headers["content-language"] == "pt-BR"
    text = page.body.decode()
    assert '<html lang="pt-BR">' in text
    assert "O que fazer" in text
    assert escape(Code.ADMIN_REQUIRED.spec.remedy_pt) in text


def test_whatever_stands_on_the_page_is_text() -> None:
    sharp = '<script>alert("x")</script>&\''
    page = ProblemPage(code=sharp, reason=sharp, remedy=sharp, request_id=sharp, language="en", status=400)
    text = bytes(page.body).decode()
    assert "<script" not in text
    assert text.count(escape(sharp)) == 4


def test_nothing_of_what_came_back_from_the_issuer_is_repeated(desk: Desk) -> None:
    query = "error=%3Cscript%3Ealert(1)%3C/script%3E&error_description=secret&state=sss"
    page = visit(desk, CALLBACK, query=query)
    assert not {word for word in (b"alert", b"secret", b"sss") if word in page.body}


def test_a_page_whose_refusal_cannot_be_recorded_is_one_too(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise Fault(Code.AUDIT_UNAVAILABLE, "the journal is closed")

    desk = Desk(tmp_path, denied_unknown=fail)
    page = visit(desk, CALLBACK)
    assert (page.status, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    desk.close()


@pytest.mark.parametrize("path", ["/admin/v1/me", "/", "/admin/v1/nothing", "/admin/v1/login/", "/readyz/"])
def test_elsewhere_a_problem_has_one_form_whoever_asks(desk: Desk, path: str) -> None:
    assert visit(desk, path).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML;charset=utf-8;q=0.7", True),
        ("application/json;q=0.5, text/html", True),
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("application/problem+json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
        ("text/*", False),
        (",;,;q=1,text", False),
    ],
)
def test_html_is_for_who_names_it_before_json(accept: str | None, page: bool) -> None:
    assert prefers_page(accept) is page
