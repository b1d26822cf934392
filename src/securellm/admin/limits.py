"""The resource /admin/v1/tenants/{tenant}/limits: how fast a tenant, or one of its keys, may ask."""

from fastapi import FastAPI

from securellm.admin.budgets import TARGET
from securellm.admin.documents import Spec, add_declarations
from securellm.admin.ports import Ports
from securellm.identity import Permission


def add_limits(app: FastAPI, ports: Ports) -> None:
    """Serve the resource."""
    spec = Spec(
        kind="limits",
        noun="limit",
        plural="limits",
        pattern=TARGET,
        reads=Permission.LIMITS_READ,
        writes=Permission.LIMITS_WRITE,
        reads_of="tenant",
        writes_of="tenant",
        within=True,
    )
    add_declarations(app, ports, spec)
