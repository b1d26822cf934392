"""The resource /admin/v1/tenants/{tenant}/budgets: what a tenant may spend."""

from fastapi import FastAPI

from securellm.admin.documents import Spec, add_declarations
from securellm.admin.ports import Ports
from securellm.identity import Permission

TARGET = r"^(tenant|project|key|user):[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def add_budgets(app: FastAPI, ports: Ports) -> None:
    """Serve the resource."""
    spec = Spec(
        kind="budget",
        noun="budget",
        plural="budgets",
        pattern=TARGET,
        reads=Permission.BUDGETS_READ,
        writes=Permission.BUDGETS_WRITE,
        reads_of="tenant",
        writes_of="tenant",
        within=True,
    )
    add_declarations(app, ports, spec)
