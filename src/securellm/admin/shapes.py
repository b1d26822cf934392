"""What requests of several resources have in common: ids, names, lists of a page, and how an answer is written."""

from typing import Annotated, Any, Self, TypeVar

import msgspec
from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from starlette.responses import JSONResponse, Response

from securellm.admin.cursors import LONGEST
from securellm.admin.problems import FieldProblem, Unacceptable
from securellm.core.errors import Code, Refusal

S = TypeVar("S", bound=msgspec.Struct)

Responses = dict[int | str, dict[str, Any]]

ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
PRINCIPAL = r"^(user|service):[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$"

Id = Annotated[str, Field(pattern=ID)]
Principal = Annotated[str, Field(pattern=PRINCIPAL)]
PathId = Annotated[str, Path(pattern=ID)]
Name = Annotated[str, Field(max_length=100, pattern=_PLAIN)]
Reason = Annotated[str, Field(max_length=500, pattern=_PLAIN)]
ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[!-~]+$")]
ONCE = AfterValidator(lambda items: tuple(dict.fromkeys(items)))
"""What is named twice counts once."""


class Input(BaseModel):
    """A body: what is not named here is refused, so nothing of ours can be set by who sends it."""

    model_config = ConfigDict(extra="forbid")


class Update(Input):
    """What is to change; what is left out stays."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("nothing is to change")
        return self

    def applied_to(self, before: S) -> S:
        """`before` with what was said: the fields of both bear the same names."""
        return msgspec.structs.replace(before, **{name: getattr(self, name) for name in self.model_fields_set})


class Listed(BaseModel):
    """Which part of a list to give."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(min_length=1, max_length=LONGEST)] = None


class ListedOfTenant(Listed):
    """Which part of a list to give, and of which tenant."""

    tenant: Annotated[str | None, Field(pattern=ID)] = None


ListQuery = Annotated[Listed, Query()]
TenantQuery = Annotated[ListedOfTenant, Query()]


def answer(view: BaseModel, *, etag: str | None = None, status: int = 200, location: str | None = None) -> Response:
    """`view` as JSON, with its entity tag and, where something was made, its address."""
    headers = {name: value for name, value in (("etag", etag), ("location", location)) if value is not None}
    return JSONResponse(view.model_dump(mode="json"), status_code=status, headers=headers)


def shown(view: type[BaseModel], *, status: int = 200, tagged: bool = True) -> Responses:
    """The `responses` of a route that answers with `view` itself."""
    headers = {"ETag": {"schema": {"type": "string"}}} if tagged else {}
    return {status: {"model": view, "headers": headers}}


def refuse(field: str, reason: str) -> Refusal:
    """The refusal of a body whose member `field` cannot be taken."""
    return Unacceptable([FieldProblem(field=field, reason=reason)])


def managed_by_file(noun: str) -> Refusal:
    return Refusal(Code.MANAGED_BY_FILE, f"this {noun} is declared in the configuration file")
