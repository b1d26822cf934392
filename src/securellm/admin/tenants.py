"""The resource /admin/v1/tenants: whose money, limits, cache and records these are."""

from fastapi import FastAPI

from securellm.admin.documents import Spec, add_declarations
from securellm.admin.ports import Ports
from securellm.admin.shapes import ID
from securellm.identity import Permission


def add_tenants(app: FastAPI, ports: Ports) -> None:
    """Serve the resource. A tenant's own people read it; the installation alone changes it."""
    spec = Spec(
        kind="tenant",
        noun="tenant",
        plural="tenants",
        pattern=ID,
        reads=Permission.TENANTS_READ,
        writes=Permission.TENANTS_WRITE,
        reads_of="tenant",
        writes_of="installation",
    )
    add_declarations(app, ports, spec)
