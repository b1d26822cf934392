"""A real OpenID provider as a process, and a browser that logs in there over plain HTTP."""

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

from tests.clients.clients import NODE

HERE = Path(__file__).resolve().parent / "node"
API = "https://bridge.example.com/api"
REDIRECT = "http://127.0.0.1:1/admin/v1/login/callback"
"""Nobody listens there: a test reads where the browser was led."""
INSTALLED = NODE is not None and (HERE / "node_modules" / "oidc-provider").is_dir()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def provider(port: int, *, key: str = "first", redirect: str = REDIRECT) -> Iterator[str]:
    """The provider on `port`, with signing keys made for this run; gives its issuer."""
    process = subprocess.Popen(
        [str(NODE), str(HERE / "provider.mjs"), str(port), key, redirect],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = next((line for line in process.stdout if line.startswith("{")), "")
        assert told, "the provider ended before it served"
        yield str(json.loads(told)["issuer"])
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        process.stdout.close()


class Browser:
    """Follows redirects within one site, keeps its cookies, fills forms in; stops where it is led elsewhere."""

    def __init__(self, site: str) -> None:
        self._site = urlsplit(site)
        self._cookies: dict[str, str] = {}

    def log_in(self, location: str, person: str) -> str:
        """Go where the gateway sent us and log in as `person`; where the provider leads back to."""
        page, location = self._follow("GET", location)
        for _ in range(3):
            if page is None:
                return location
            action = re.search(r'<form[^>]* action="([^"]+)"', page)
            prompt = re.search(r'name="prompt" value="([a-z]+)"', page)
            assert action is not None, page
            assert prompt is not None, page
            form = {"prompt": prompt[1]} | ({"login": person, "password": "x"} if prompt[1] == "login" else {})
            page, location = self._follow("POST", urljoin(location, action[1]), urlencode(form))
        raise AssertionError("the provider asked again and again")

    def deny(self, location: str) -> str:
        """Go where the gateway sent us and leave by the provider's own link; where it leads back to."""
        page, location = self._follow("GET", location)
        assert page is not None
        abort = re.search(r'href="([^"]+/abort)"', page)
        assert abort is not None, page
        _, location = self._follow("GET", urljoin(location, abort[1]))
        return location

    def _follow(self, method: str, location: str, body: str | None = None) -> tuple[str | None, str]:
        """The page at the end of the redirects, or None where they lead to another site."""
        for _ in range(10):
            place = urlsplit(location)
            if place.netloc != self._site.netloc:
                return None, location
            connection = http.client.HTTPConnection(place.netloc, timeout=10)
            try:
                headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
                if body is not None:
                    headers["content-type"] = "application/x-www-form-urlencoded"
                connection.request(method, f"{place.path}?{place.query}" if place.query else place.path, body, headers)
                answer = connection.getresponse()
                content = answer.read().decode()
                for cookie in answer.headers.get_all("set-cookie", []):
                    name, _, value = cookie.partition(";")[0].partition("=")
                    self._cookies[name] = value
            finally:
                connection.close()
            if answer.status not in (302, 303):
                assert answer.status == 200, content
                return content, location
            location, method, body = urljoin(location, answer.headers["location"]), "GET", None
        raise AssertionError("the provider leads in circles")


def services_token(issuer: str, *, resource: str = API) -> str:
    """What a service gets for its own credentials: an access token for our API."""
    form = {"grant_type": "client_credentials", "resource": resource, "scope": "use"}
    connection = http.client.HTTPConnection(urlsplit(issuer).netloc, timeout=10)
    try:
        connection.request(
            "POST",
            "/token",
            urlencode({**form, "client_id": "worker", "client_secret": "worker secret"}),
            {"content-type": "application/x-www-form-urlencoded"},
        )
        answer = connection.getresponse()
        content = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status == 200, content
    return str(content["access_token"])
