"""What is in force: the file's declarations and the stored ones, read by one grammar and checked as one whole."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import msgspec

from securellm.bootstrap.config import Loaded
from securellm.bootstrap.declared import KindFacts, check_declared
from securellm.bootstrap.lending import is_ours, not_lent
from securellm.bootstrap.review import Review
from securellm.bootstrap.tree import Config, Model, Provider, Tenant
from securellm.finops import BUDGETS, PriceBook
from securellm.finops.settings import BudgetSettings, StoredBudget
from securellm.identity import TENANTS
from securellm.identity.model import ManagedBy
from securellm.limits import LIMITS
from securellm.limits.settings import StoredLimits, TenantLimits
from securellm.providers import PROVIDERS
from securellm.providers.registry import KINDS
from securellm.routing import MODELS
from securellm.settings import ConfigError, Problem
from securellm.settings.loader import Complaints, dotted, judge
from securellm.settings.locator import Locator
from securellm.settings.locator import Path as Place
from securellm.storage import Session, Shelf

Kind = Literal["tenant", "provider", "model", "budget", "limits"]
Document = Mapping[str, Any]
"""A declaration in the words of the file: the TOML table as plain values."""

SOURCE = "the control store"
TREES: Mapping[Kind, type[msgspec.Struct]] = {
    "tenant": Tenant,
    "provider": Provider,
    "model": Model,
    "budget": StoredBudget,
    "limits": StoredLimits,
}
TABLES: Mapping[Kind, tuple[str, str]] = {
    "tenant": ("tenants", "id"),
    "provider": ("providers", "id"),
    "model": ("models", "name"),
}
"""Where in the file such a thing stands, and what it is called by there."""
_ENFORCED: Mapping[Kind, tuple[str, ...]] = {"budget": ("tenant",), "limits": ("tenant", "key")}
"""Whose budgets and limits are kept to; any other would be a promise that nobody keeps."""

SHELVES: Mapping[Kind, Shelf[dict[str, Any]]] = {
    "tenant": TENANTS,
    "provider": PROVIDERS,
    "model": MODELS,
    "budget": BUDGETS,
    "limits": LIMITS,
}
_PAGE = 500


class Name(NamedTuple):
    """What a stored declaration is found by. `tenant` is empty for what belongs to the installation."""

    kind: Kind
    tenant: str
    id: str


Stored = Mapping[Name, Document]


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration in force. Only `compose` makes one, so nothing in it is unchecked."""

    loaded: Loaded
    stored: Stored
    config: Config
    """The file's tree with the stored providers, models and tenants behind the file's own."""
    key_limits: Mapping[tuple[str, str], TenantLimits]
    """By the tenant that set them and the key's id."""
    warnings: tuple[Problem, ...]
    """Of what is stored: allowed, but unwise."""

    def managed_by(self, kind: Kind, id_: str, *, tenant: str = "") -> ManagedBy | None:
        """Who may change it; None when there is no such thing."""
        if Name(kind, tenant, id_) in self.stored:
            return "api"
        return None if self._in_file(kind, id_, tenant) is None else "file"

    def document(self, kind: Kind, id_: str, *, tenant: str = "") -> Document | None:
        """It in the words of the file, as it was written."""
        stored = self.stored.get(Name(kind, tenant, id_))
        return self._in_file(kind, id_, tenant) if stored is None else stored

    def names(self, kind: Kind, *, tenant: str = "") -> tuple[str, ...]:
        """The ids of all such things (of `tenant`: its budgets or limits), sorted."""
        stored = {name.id for name in self.stored if name.kind == kind and name.tenant == tenant}
        return tuple(sorted(stored.union(self._names_in_file(kind, tenant))))

    def _names_in_file(self, kind: Kind, tenant: str) -> Iterator[str]:
        if kind in TABLES:
            table, key = TABLES[kind]
            yield from (row[key] for row in self.loaded.document.get(table, ()))
        elif self._in_file(kind, f"tenant:{tenant}", tenant) is not None:
            yield f"tenant:{tenant}"

    def _in_file(self, kind: Kind, id_: str, tenant: str) -> Document | None:
        if kind in TABLES:
            table, key = TABLES[kind]
            return next((row for row in self.loaded.document.get(table, ()) if row[key] == id_), None)
        row = self._in_file("tenant", tenant, "")
        if row is None or kind not in row or id_ != f"tenant:{tenant}":
            return None
        return {"scope": "tenant", "target": tenant, **row[kind]}


def compose(
    loaded: Loaded,
    stored: Stored,
    *,
    book: PriceBook,
    kinds: Mapping[str, KindFacts] = KINDS,
    resolving: bool = True,
) -> Effective:
    """File and store together. Raises `ConfigError` with every problem when they make no whole.

    Without `resolving` no secret is asked for.
    """
    review = _review(loaded, stored, book=book, kinds=kinds, resolves=lambda _: resolving)
    problems = [_outside(name, problem) for name, found in review.found.items() for problem in found]
    if problems:
        raise ConfigError(SOURCE, problems)
    return Effective(
        loaded=loaded,
        stored=MappingProxyType(dict(stored)),
        config=review.config,
        key_limits=review.key_limits,
        warnings=tuple(_outside(name, problem) for name, problem in review.warnings if name is not None),
    )


def stored_documents(session: Session) -> Stored:
    """Every stored declaration. The session's scope must be everywhere."""
    found: dict[Name, Document] = {}
    for kind, shelf in SHELVES.items():
        after: tuple[str, str] | None = None
        while page := shelf.page(session, after=after, limit=_PAGE):
            found |= {Name(kind, one.tenant, one.id): one.document for one in page}
            after = page[-1].place
    return found


def name_of(kind: Kind, document: Document, *, tenant: str = "") -> Name:
    """What the thing this document declares is stored under; an empty id where it says none."""
    if kind in TABLES:
        said = document.get(TABLES[kind][1])
        return Name(kind, "", said if isinstance(said, str) else "")
    return Name(kind, tenant, f"{document.get('scope')}:{document.get('target')}")


def check(
    kind: Kind,
    document: Document,
    effective: Effective,
    *,
    book: PriceBook,
    tenant: str = "",
    kinds: Mapping[str, KindFacts] = KINDS,
) -> list[Problem]:
    """What is wrong with storing `document`, new or in the place of the one of its name; nothing when it may be.

    Keys are relative to the document, or name what else would break. Its own secrets are looked at, no others.
    Blocking: it reads certificates and secrets.
    """
    name = name_of(kind, document, tenant=tenant)
    problems = _change(effective, {**effective.stored, name: document}, name, book=book, kinds=kinds)
    if not problems and kind == "provider" and is_ours(judge(document, Provider).value, effective.loaded):
        problems = [Problem(None, "credential", "is a secret of the gateway's own", "name one of the provider's")]
    return problems


def check_removal(
    kind: Kind,
    id_: str,
    effective: Effective,
    *,
    book: PriceBook,
    tenant: str = "",
    kinds: Mapping[str, KindFacts] = KINDS,
) -> list[Problem]:
    """What would break once it were gone: who still refers to it. Keys made through the API are not looked at."""
    name = Name(kind, tenant, id_)
    return _change(effective, {n: d for n, d in effective.stored.items() if n != name}, name, book=book, kinds=kinds)


def _change(
    effective: Effective, stored: Stored, name: Name, *, book: PriceBook, kinds: Mapping[str, KindFacts]
) -> list[Problem]:
    after = _review(effective.loaded, stored, book=book, kinds=kinds, resolves=lambda other: other == name)
    if name in after.found:
        return after.found[name]
    if not after.found:
        return []
    # What was wrong before, such as a certificate that has gone since, is not this change's doing.
    before = _review(effective.loaded, effective.stored, book=book, kinds=kinds, resolves=lambda _: False)
    known = {(other, problem) for other, found in before.found.items() for problem in found}
    return [
        _outside(other, problem)
        for other, found in after.found.items()
        for problem in found
        if (other, problem) not in known
    ]


class _Reviewed(NamedTuple):
    config: Config
    key_limits: Mapping[tuple[str, str], TenantLimits]
    found: Mapping[Name | None, list[Problem]]
    """By what is at fault; None is the file."""
    warnings: list[tuple[Name | None, Problem]]


def _review(
    loaded: Loaded,
    stored: Stored,
    *,
    book: PriceBook,
    kinds: Mapping[str, KindFacts],
    resolves: Callable[[Name], bool] = lambda _: True,
) -> _Reviewed:
    """Read every document by itself, then all that could be read together with the file."""
    reading = _Reading(loaded)
    for name, document in sorted(stored.items()):
        reading.take(name, document)
    config, owners = reading.config(), reading.owners

    def owner(path: Place) -> tuple[Name | None, Place]:
        table, index = path[0], path[1] if len(path) > 1 else None
        if not isinstance(table, str) or not isinstance(index, int) or table not in owners:
            return None, path
        if table == "tenants" and path[2:3] == ("budget",):
            budget = Name("budget", config.tenants[index].id, f"tenant:{config.tenants[index].id}")
            if budget in stored:
                return budget, ("month", *path[3:])
        own = index - len(getattr(loaded.config, table))
        return (None, path) if own < 0 else (owners[table][own], path[2:])

    def resolved(path: Place) -> bool:
        name, _ = owner(path)
        # Of the file's own secrets the file's check has looked.
        return name is not None and resolves(name)

    complaints = Complaints(Locator(""))
    review = Review(
        config,
        complaints,
        base=loaded.path.parent,
        resolver=loaded.resolver,
        resolves=resolved,
    )
    check_declared(review, kinds=kinds, book=book)
    warnings: list[tuple[Name | None, Problem]] = []
    for path, warning in review.warnings:
        whose, rest = owner(path)
        warnings.append((whose, msgspec.structs.replace(warning, key=dotted(rest))))
    for path, problem in complaints.placed():
        whose, rest = owner(path)
        reading.found[whose].append(msgspec.structs.replace(problem, key=dotted(rest)))
    return _Reviewed(config, reading.key_limits, reading.found, warnings)


class _Reading:
    """Documents as they are read: what of them is whole, and what is wrong with the others."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._file = loaded.config
        self.found: dict[Name | None, list[Problem]] = defaultdict(list)
        self.owners: dict[str, list[Name]] = {"providers": [], "models": [], "tenants": []}
        self.key_limits: dict[tuple[str, str], TenantLimits] = {}
        self._rows: dict[str, list[Any]] = {"providers": [], "models": [], "tenants": []}
        self._budgets: dict[Name, BudgetSettings] = {}
        self._limits: dict[Name, TenantLimits] = {}

    def take(self, name: Name, document: Document) -> None:
        read = judge(document, TREES[name.kind])
        problems = list(read.complaints.all())
        if not problems:
            problems = self._misplaced(name, document)
        if not problems and isinstance(read.value, Provider):
            problems = list(not_lent(read.value, self._loaded))
        if problems:
            self.found[name] += problems
            return
        value = read.value
        if name.kind in TABLES:
            table, _ = TABLES[name.kind]
            self._rows[table].append(value)
            self.owners[table].append(name)
        elif isinstance(value, StoredBudget):
            self._budgets[name] = BudgetSettings(month=value.month, hard=value.hard)
        elif isinstance(value, StoredLimits):
            figures = {field: getattr(value, field) for field in TenantLimits.__struct_fields__}
            self._limits[name] = TenantLimits(**figures)

    def config(self) -> Config:
        """The whole, as far as it could be read."""
        tenants = [*self._file.tenants, *self._rows["tenants"]]
        places = {tenant.id: place for place, tenant in enumerate(tenants)}
        for name in (*self._budgets, *self._limits):
            if name.tenant not in places:
                self._refuse(name, "target", "there is no such tenant", "name one that exists")
                continue
            place = places[name.tenant]
            if name in self._limits and name.id.startswith("key:"):
                self.key_limits[name.tenant, name.id.removeprefix("key:")] = self._limits[name]
            elif name in self._budgets and tenants[place].budget is None:
                tenants[place] = msgspec.structs.replace(tenants[place], budget=self._budgets[name])
            elif name in self._limits and tenants[place].limits == TenantLimits():
                tenants[place] = msgspec.structs.replace(tenants[place], limits=self._limits[name])
            else:
                what = "a budget" if name.kind == "budget" else "limits"
                self._refuse(name, "target", f"the tenant's own declaration has {what} already", "change it there")
        return msgspec.structs.replace(
            self._file,
            providers=(*self._file.providers, *self._rows["providers"]),
            models=(*self._file.models, *self._rows["models"]),
            tenants=tuple(tenants),
        )

    def _misplaced(self, name: Name, document: Document) -> list[Problem]:
        """Problems of a document that is whole: of its name, and of what it cannot promise."""
        if name != name_of(name.kind, document, tenant=name.tenant):
            return [Problem(None, "", "does not bear the id it is stored under", "store it under its own id")]
        if name.kind == "tenant" and document.get("policy"):
            # Read from files of the host, and at its start: never what somebody far away names.
            return [
                Problem(None, "policy", "names files of the host", "propose the bundle as a policy version instead")
            ]
        if name.kind in TABLES:
            table, key = TABLES[name.kind]
            if any(getattr(row, key) == name.id for row in getattr(self._file, table)):
                return [
                    Problem(None, key, "is declared in the configuration file too", "choose another, or remove one")
                ]
            return []
        scope, target = document["scope"], document["target"]
        if scope not in _ENFORCED[name.kind]:
            enforced = " or ".join(_ENFORCED[name.kind])
            return [Problem(None, "scope", f"nothing bounds a {scope} by this yet", f'write "{enforced}"')]
        if scope == "tenant" and target != name.tenant:
            return [Problem(None, "target", "is another tenant", f'write "{name.tenant}"')]
        return []

    def _refuse(self, name: Name, key: str, reason: str, remedy: str) -> None:
        self.found[name].append(Problem(None, key, reason, remedy))


def _outside(name: Name | None, problem: Problem) -> Problem:
    """A problem named from the root: whose it is, and where in it."""
    if name is None:
        return problem
    table = TABLES[name.kind][0] if name.kind in TABLES else f"tenants[{name.tenant}].{name.kind}"
    key = f"{table}[{name.id}]" + (f".{problem.key}" if problem.key else "")
    return msgspec.structs.replace(problem, key=key)
