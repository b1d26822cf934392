"""Declarations in the words of the configuration file: read, made, changed and removed one way, whatever they declare.

What the file declares is listed with `managed_by` "file" and belongs to the file.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from fastapi import Body, FastAPI, Path
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from securellm.admin.calls import Call, CurrentCall, missing
from securellm.admin.critical import ANSWERS_PROPOSAL, Arguments, Criticals
from securellm.admin.declarations import declaration_schema
from securellm.admin.declared import Document, Found, Kind, Refused
from securellm.admin.etags import etag_of
from securellm.admin.moments import moment_of
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, Of, asks
from securellm.admin.placing import Acts, Placing
from securellm.admin.ports import Changed, Ports
from securellm.admin.problems import FieldProblem, Unacceptable
from securellm.admin.shapes import Listed, ListQuery, PathId, Responses, managed_by_file
from securellm.core.errors import Code, Refusal
from securellm.identity import Permission
from securellm.storage import Session

T = TypeVar("T")

_OURS = ("managed_by", "created_at", "updated_at")
"""What we add to a document when we show it, and take from nobody."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of declarations."""

    kind: Kind
    noun: str
    plural: str
    pattern: str
    reads: Permission
    writes: Permission
    reads_of: Of
    writes_of: Of
    within: bool = False
    """It is some tenant's, and stands below it."""


class Declaration(BaseModel):
    """A declaration as it is shown: in the words of the file, and who may change it."""

    model_config = ConfigDict(extra="allow")

    managed_by: Literal["file", "api"]
    created_at: datetime | None
    updated_at: datetime | None


class DeclarationList(BaseModel):
    data: list[Declaration]
    next_cursor: str | None


Whole = Annotated[dict[str, Any], Body()]


class _Declarations:
    """What the handlers of one resource do, wherever it stands."""

    def __init__(self, ports: Ports, spec: Spec, criticals: Criticals | None) -> None:
        self.spec = spec
        self.placing = None if criticals is None else Placing(ports, criticals, self._acts())
        self.root = f"{API_ROOT}/tenants/{{tenant}}/{spec.plural}" if spec.within else f"{API_ROOT}/{spec.plural}"
        self._declared = ports.declared

    async def list(self, call: Call, asked: Listed, tenant: str) -> DeclarationList:
        spec, only = self.spec, None
        if spec.within:
            call.allow(tenant)
        elif spec.reads_of == "tenant":
            only = call.tenants()

        def found(session: Session, after: str | None, most: int) -> tuple[Found, ...]:
            if only is None:
                return self._declared.page(session, spec.kind, tenant=tenant, after=after, limit=most)
            names = (name for name in sorted(only) if after is None or name > after)
            items = (self._declared.find(session, spec.kind, name) for name in names)
            return tuple(islice((item for item in items if item is not None), most))

        items, cursor = await page_of(call, asked, found, key=lambda item: item.name)
        return DeclarationList(data=[Declaration(**_shown(item)) for item in items], next_cursor=cursor)

    async def get(self, call: Call, name: str, tenant: str) -> Response:
        self._allow(call, name, tenant)
        return self._answer(await call.read(lambda session: self._find(session, name, tenant)), tenant)

    async def create(self, call: Call, document: Document, tenant: str) -> Response:
        call.allow(tenant if self.spec.within else None)
        _own(document)
        critical, alone = await self._judge_place(call, {}, document)
        if critical and not alone:
            assert self.placing is not None
            return await self.placing.propose(call, {"document": dict(document)})

        def work(session: Session) -> Changed[Found]:
            if alone:
                self._demand_alone(session)
            made = self._create(session, document, tenant)
            return Changed(result=made, id=made.name, after=made.document)

        made = await call.change("create", self.spec.plural, work, tenant=self._whose(tenant, None), alone=alone)
        return self._answer(made, tenant, status=201)

    async def change(self, call: Call, name: str, tenant: str, document: Document, *, patch: bool) -> Response:
        self._allow(call, name, tenant)
        seen = await call.read(lambda session: self._changeable(session, call, name, tenant))
        wanted = _merged(seen.document, document) if patch else _own(document)
        etag = self._etag(seen, tenant)
        critical, alone = await self._judge_place(call, seen.document, wanted)
        if critical and not alone:
            assert self.placing is not None
            return await self.placing.propose(call, {"id": name, "etag": etag, "document": dict(wanted)})

        def work(session: Session) -> Changed[Found]:
            if alone:
                self._demand_alone(session)
            before, after = self._replace(session, name, etag, wanted, tenant)
            return Changed(result=after, id=name, before=before.document, after=after.document)

        action = "update" if patch else "replace"
        made = await call.change(action, self.spec.plural, work, tenant=self._whose(tenant, name), alone=alone)
        return self._answer(made, tenant)

    async def delete(self, call: Call, name: str, tenant: str) -> Response:
        self._allow(call, name, tenant)

        def work(session: Session) -> Changed[None]:
            before = self._changeable(session, call, name, tenant)
            try:
                self._declared.remove(session, self.spec.kind, before, tenant=tenant)
            except Refused as refused:
                reasons = "; ".join(f"{problem.key}: {problem.reason}" for problem in refused.problems[:5])
                raise Refusal(Code.CONFLICT, f"others still need it: {reasons}") from None
            return Changed(result=None, id=name, before=before.document)

        await call.change("delete", self.spec.plural, work, tenant=self._whose(tenant, name))
        return Response(status_code=204)

    def _allow(self, call: Call, name: str, tenant: str) -> None:
        """Whose the thing is follows from its address. A tenant is its own."""
        if self.spec.within:
            call.allow(tenant)
        elif call.ask.of == "tenant":
            call.allow(name)

    def _whose(self, tenant: str, name: str | None) -> str | None:
        if self.spec.within:
            return tenant
        return name if self.spec.kind == "tenant" else None

    def _find(self, session: Session, name: str, tenant: str) -> Found:
        found = self._declared.find(session, self.spec.kind, name, tenant=tenant)
        if found is None:
            raise missing(f"no {self.spec.noun} has this id")
        return found

    def _changeable(self, session: Session, call: Call, name: str, tenant: str) -> Found:
        found = self._find(session, name, tenant)
        if found.managed_by == "file":
            raise managed_by_file(self.spec.noun)
        call.precondition.demand(self._etag(found, tenant))
        return found

    async def _judge_place(self, call: Call, before: Document, after: Document) -> tuple[bool, bool]:
        """Whether two people stand behind this change, and whether there is but one. Raises `Refusal` (FORBIDDEN)."""
        if self.placing is None:
            return False, False
        if not self.placing.allow(call, before, after):
            call.demand_whole_glass()
            return False, False
        return True, await self.placing.alone(call)

    def _demand_alone(self, session: Session) -> None:
        assert self.placing is not None
        self.placing.demand_alone(session)

    def _acts(self) -> Acts:
        def check_new(session: Session, document: Document) -> None:
            _judged(lambda: self._declared.check(session, self.spec.kind, None, document))

        def check_other(session: Session, asked: Arguments) -> None:
            before = self._as_seen(session, asked["id"], asked["etag"], "")
            _judged(lambda: self._declared.check(session, self.spec.kind, before, asked["document"]))

        return Acts(
            check_new=check_new,
            create=lambda session, document: self._create(session, document, ""),
            check_other=check_other,
            replace=lambda session, asked: self._replace(session, asked["id"], asked["etag"], asked["document"], ""),
            answer=lambda found, status: self._answer(found, "", status=status),
        )

    def _create(self, session: Session, document: Document, tenant: str) -> Found:
        return _judged(lambda: self._declared.create(session, self.spec.kind, document, tenant=tenant))

    def _replace(self, session: Session, name: str, etag: str, document: Document, tenant: str) -> tuple[Found, Found]:
        before = self._as_seen(session, name, etag, tenant)
        return before, _judged(lambda: self._declared.replace(session, self.spec.kind, before, document, tenant=tenant))

    def _as_seen(self, session: Session, name: str, etag: str, tenant: str) -> Found:
        """Raises `Refusal` (PRECONDITION_FAILED) when it is another by now than it was asked to be changed from."""
        before = self._find(session, name, tenant)
        if self._etag(before, tenant) != etag:
            raise Refusal(Code.PRECONDITION_FAILED, f"the {self.spec.noun} has changed since this was asked for")
        return before

    def _answer(self, found: Found, tenant: str, *, status: int = 200) -> Response:
        shown = Declaration(**_shown(found)).model_dump(mode="json")
        headers = {"etag": self._etag(found, tenant)}
        if status == 201:
            headers["location"] = f"{self.root.replace('{tenant}', tenant)}/{found.name}"
        return JSONResponse(shown, status_code=status, headers=headers)

    def _etag(self, found: Found, tenant: str) -> str:
        content = found.document if found.managed_by == "file" else None
        return etag_of(
            self.spec.kind,
            key=f"{tenant}/{found.name}",
            created_us=found.created_us,
            revision=found.revision,
            content=content,
        )


Handler = Callable[..., Awaitable[Any]]


class _Handlers(NamedTuple):
    """What FastAPI reads of each request, said by the annotations of these functions."""

    list: Handler
    get: Handler
    create: Handler
    replace: Handler
    update: Handler
    delete: Handler


def add_declarations(app: FastAPI, ports: Ports, spec: Spec, *, criticals: Criticals | None = None) -> None:
    """Serve one resource; with `criticals`, one that says where credentials are sent, which may take two people."""
    resource = _Declarations(ports, spec, criticals)
    root, tree = resource.root, ports.declared.tree(spec.kind)
    one = f"{root}/{{name{':path' if spec.kind == 'model' else ''}}}"
    handlers = _below_tenant(resource) if spec.within else _at_root(resource)
    headers = {"ETag": {"schema": {"type": "string"}}}
    shown = {"content": {"application/json": {"schema": _shown_schema(tree)}}, "headers": headers}
    schema = declaration_schema(tree)
    taken = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
    two = criticals is not None
    reads, writes = asks(spec.reads, of=spec.reads_of), asks(spec.writes, of=spec.writes_of, four_eyes=two)
    based = asks(spec.writes, of=spec.writes_of, precondition=True, four_eyes=two)
    removes = asks(spec.writes, of=spec.writes_of, precondition=True)

    def waiting(extra: dict[str, Any]) -> Responses:
        return ANSWERS_PROPOSAL if extra.get("x-four-eyes") else {}

    def add(
        method: str,
        path: str,
        operation: str,
        handler: Handler,
        description: str,
        *,
        extra: dict[str, Any],
        status: int = 200,
    ) -> None:
        listing = operation.startswith("list_")
        app.add_api_route(
            path,
            handler,
            methods=[method],
            status_code=status,
            operation_id=operation,
            tags=[spec.plural],
            description=description,
            openapi_extra=extra,
            response_model=DeclarationList if listing else None,
            responses=None if listing or status == 204 else {status: shown, **waiting(extra)},
        )

    noun = spec.noun
    add("GET", root, f"list_{spec.plural}", handlers.list, f"List {spec.plural} by their names.", extra=reads)
    add("GET", one, f"get_{noun}", handlers.get, f"One {noun}, in the words of the configuration file.", extra=reads)
    add(
        "POST",
        root,
        f"create_{noun}",
        handlers.create,
        f"Declare a {noun}. It is in force when this is answered.",
        extra={**writes, **taken},
        status=201,
    )
    add(
        "PUT",
        one,
        f"replace_{noun}",
        handlers.replace,
        f"Put another declaration in the place of this {noun}'s.",
        extra={**based, **taken},
    )
    add(
        "PATCH",
        one,
        f"update_{noun}",
        handlers.update,
        f"Change members of this {noun} (JSON Merge Patch, RFC 7396); null removes one.",
        extra=based,
    )
    add(
        "DELETE",
        one,
        f"delete_{noun}",
        handlers.delete,
        f"Remove this {noun}, unless something else needs it.",
        extra=removes,
        status=204,
    )


def _below_tenant(resource: _Declarations) -> _Handlers:
    Name = Annotated[str, Path(pattern=resource.spec.pattern, max_length=200)]  # noqa: N806 - a type

    async def list_(call: CurrentCall, tenant: PathId, asked: ListQuery) -> Any:
        return await resource.list(call, asked, tenant)

    async def get(call: CurrentCall, tenant: PathId, name: Name) -> Any:
        return await resource.get(call, name, tenant)

    async def create(call: CurrentCall, tenant: PathId, document: Whole) -> Any:
        return await resource.create(call, document, tenant)

    async def replace(call: CurrentCall, tenant: PathId, name: Name, document: Whole) -> Any:
        return await resource.change(call, name, tenant, document, patch=False)

    async def update(call: CurrentCall, tenant: PathId, name: Name, document: Whole) -> Any:
        return await resource.change(call, name, tenant, document, patch=True)

    async def delete(call: CurrentCall, tenant: PathId, name: Name) -> Any:
        return await resource.delete(call, name, tenant)

    return _Handlers(list_, get, create, replace, update, delete)


def _at_root(resource: _Declarations) -> _Handlers:
    Name = Annotated[str, Path(pattern=resource.spec.pattern, max_length=200)]  # noqa: N806 - a type

    async def list_(call: CurrentCall, asked: ListQuery) -> Any:
        return await resource.list(call, asked, "")

    async def get(call: CurrentCall, name: Name) -> Any:
        return await resource.get(call, name, "")

    async def create(call: CurrentCall, document: Whole) -> Any:
        return await resource.create(call, document, "")

    async def replace(call: CurrentCall, name: Name, document: Whole) -> Any:
        return await resource.change(call, name, "", document, patch=False)

    async def update(call: CurrentCall, name: Name, document: Whole) -> Any:
        return await resource.change(call, name, "", document, patch=True)

    async def delete(call: CurrentCall, name: Name) -> Any:
        return await resource.delete(call, name, "")

    return _Handlers(list_, get, create, replace, update, delete)


def _own(document: Document) -> Document:
    """Raises `Unacceptable` for a document that sets what is ours."""
    ours = [name for name in _OURS if name in document]
    if ours:
        raise Unacceptable([FieldProblem(field=name, reason="is not for callers to set") for name in ours])
    return document


def _merged(document: Document, patch: Document) -> Document:
    """`document` with `patch` applied, as JSON Merge Patch (RFC 7396) says."""
    merged = dict(document)
    for name, value in _own(patch).items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            below = merged.get(name)
            merged[name] = _merged(below if isinstance(below, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def _judged(act: Callable[[], T]) -> T:
    try:
        return act()
    except Refused as refused:
        raise Unacceptable(
            [
                FieldProblem(field=problem.key or "document", reason=f"{problem.reason}; {problem.remedy}")
                for problem in refused.problems
            ]
        ) from None


def _shown(found: Found) -> dict[str, Any]:
    return {
        **found.document,
        "managed_by": found.managed_by,
        "created_at": moment_of(found.created_us or None),
        "updated_at": moment_of(found.updated_us or None),
    }


def _shown_schema(tree: type[msgspec.Struct]) -> dict[str, Any]:
    schema = declaration_schema(tree)
    ours = Declaration.model_json_schema()["properties"]
    return {
        **schema,
        "properties": {**schema["properties"], **ours},
        "required": [*schema["required"], *_OURS],
    }
