"""Bundles of policies, governance profiles and tests: read strictly, and named by their digest."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from securellm.core.canonical import canonical_bytes
from securellm.core.document import Document
from securellm.core.errors import Refusal
from securellm.policy.model import Question
from securellm.policy.profiles import Profile, cedar_of, problems_of
from securellm.policy.scanning import MOST_POLICIES, ScanRefused, Segment, segments

LONGEST = 1 << 20
"""Bytes of a whole bundle."""
MOST_TEXTS = 32
MOST_TESTS = 1_000
PROFILES = "profiles"
"""What the text that is made of the profiles is called in problems."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class BundleRefused(ValueError):
    """Not a bundle. Each problem is a sentence that says where and why."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A test that a bundle brings along: a question, and what must be the answer."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    ask: Question
    expect: Literal["allow", "deny"]
    rules: frozenset[str] | None = None
    """The ids of exactly the policies that must decide."""
    redact: frozenset[str] | None = None
    route: frozenset[str] | None = None
    approvals: int | None = None


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Policies that are proposed, tried and put in force together. Immutable: another text is another bundle."""

    policies: Annotated[
        dict[Annotated[str, msgspec.Meta(pattern=_NAME)], str], msgspec.Meta(max_length=MOST_TEXTS)
    ] = {}
    """Cedar texts by their names."""
    profiles: Annotated[tuple[Profile, ...], msgspec.Meta(max_length=MOST_POLICIES)] = ()
    tests: Annotated[tuple[Case, ...], msgspec.Meta(max_length=MOST_TESTS)] = ()

    @property
    def texts(self) -> dict[str, str]:
        """Every Cedar text in the order in which they are put together, the profiles' own last."""
        texts = {name: self.policies[name] for name in sorted(self.policies)}
        if self.profiles:
            texts[PROFILES] = cedar_of(self.profiles)
        return texts


def hash_of(bundle: Bundle) -> str:
    """SHA-256 (hex) of the bundle in its one spelling: equal bundles, equal hash."""
    return hashlib.sha256(canonical_bytes(msgspec.to_builtins(bundle, order="sorted"))).hexdigest()


def bundle_json(bundle: Bundle) -> bytes:
    """The bundle as `read_bundle` reads it."""
    return canonical_bytes(msgspec.to_builtins(bundle, order="sorted"))


def read_bundle(data: bytes) -> Bundle:
    """A bundle from its JSON: `{"policies": {name: text}, "profiles": […], "tests": […]}`; one text may stand alone.

    Raises BundleRefused. Nothing of it has been parsed as Cedar: only `prove` says whether it can be used.
    """
    if len(data) > LONGEST:
        raise BundleRefused((f"the bundle is longer than {LONGEST} bytes",))
    try:
        # Strict: names that stand twice, lone surrogates and deep nesting are refused here.
        members = dict(Document(data, max_depth=16).members())
        if isinstance(members.get("policies"), str):
            members["policies"] = {"policies": members["policies"]}
        bundle = msgspec.convert(members, Bundle)
    except Refusal as refusal:
        raise BundleRefused((f"the bundle is not valid JSON: {refusal.reason}",)) from None
    except msgspec.ValidationError as error:
        raise BundleRefused((f"the bundle has another shape: {error}",)) from None
    checked(bundle)
    return bundle


def open_bundle(path: Path) -> Bundle:
    """A bundle from a file of JSON, or from a folder: `*.cedar`, and `profiles.json` and `tests.json` where they are.

    Raises BundleRefused.
    """
    if not path.is_dir():
        return read_bundle(_bytes(path))
    texts = {file.name: _text(file) for file in sorted(path.glob("*.cedar"))[: MOST_TEXTS + 1]}
    members: dict[str, object] = {"policies": texts}
    for name in ("profiles", "tests"):
        file = path / f"{name}.json"
        if file.exists():
            try:
                members[name] = Document(_bytes(file), max_depth=16).root
            except Refusal as refusal:
                raise BundleRefused((f"{file.name} is not valid JSON: {refusal.reason}",)) from None
    try:
        bundle = msgspec.convert(members, Bundle)
    except msgspec.ValidationError as error:
        raise BundleRefused((f"the bundle has another shape: {error}",)) from None
    checked(bundle)
    return bundle


def checked(bundle: Bundle) -> tuple[Segment, ...]:
    """The policies of a bundle one by one, in order. Raises BundleRefused with every text that must not be parsed."""
    problems = list(problems_of(bundle.profiles))
    found: list[Segment] = []
    for name, text in bundle.texts.items():
        try:
            found += segments(text)
        except ScanRefused as error:
            problems.append(f"{name}: {error}")
    if len(found) > MOST_POLICIES:
        problems.append(f"more than {MOST_POLICIES} policies together")
    if sum(len(text) for text in bundle.texts.values()) > LONGEST:
        problems.append(f"the bundle is longer than {LONGEST} letters")
    if not found and not problems:
        problems.append("the bundle has no policies: in force it would deny everything")
    if problems:
        raise BundleRefused(tuple(problems))
    return tuple(found)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else "cannot be read"
        raise BundleRefused((f"{path.name}: {reason}",)) from None
    if len(data) > LONGEST:
        raise BundleRefused((f"{path.name} is longer than {LONGEST} bytes",))
    return data


def _text(path: Path) -> str:
    try:
        # A checkout on another system must not be another bundle.
        return _bytes(path).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BundleRefused((f"{path.name}: byte {error.start} is not UTF-8",)) from None
