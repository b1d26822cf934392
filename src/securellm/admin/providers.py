"""The resource /admin/v1/providers: what is spoken to, and with which credential, named and never shown."""

from fastapi import FastAPI

from securellm.admin.critical import Criticals
from securellm.admin.documents import Spec, add_declarations
from securellm.admin.ports import Ports
from securellm.admin.shapes import ID
from securellm.identity import Permission


def add_providers(app: FastAPI, ports: Ports, criticals: Criticals) -> None:
    """Serve the resource. Where a provider is takes `providers:place`; where a credential is sent, two who hold it."""
    spec = Spec(
        kind="provider",
        noun="provider",
        plural="providers",
        pattern=ID,
        reads=Permission.PROVIDERS_READ,
        writes=Permission.PROVIDERS_WRITE,
        reads_of="installation",
        writes_of="installation",
    )
    add_declarations(app, ports, spec, criticals=criticals)
