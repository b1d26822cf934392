"""The resource /admin/v1/providers: what is spoken to, and with which credential, named and never shown."""

from fastapi import FastAPI

from securellm.admin.documents import Spec, add_declarations
from securellm.admin.ports import Ports
from securellm.admin.shapes import ID
from securellm.identity import Permission

PLACES = frozenset({"kind", "base_url", "credential", "ca_file", "client_cert", "client_key", "proxy"})
"""What decides to whom a credential and a prompt are sent, and whom we believe to be them."""


def add_providers(app: FastAPI, ports: Ports) -> None:
    """Serve the resource. Where a provider is and which credential it gets takes `providers:place`."""
    spec = Spec(
        kind="provider",
        noun="provider",
        plural="providers",
        pattern=ID,
        reads=Permission.PROVIDERS_READ,
        writes=Permission.PROVIDERS_WRITE,
        reads_of="installation",
        writes_of="installation",
        places=PLACES,
    )
    add_declarations(app, ports, spec)
