"""The resource /admin/v1/models: the allow-list, each name with the ordered plan behind it."""

from fastapi import FastAPI

from securellm.admin.documents import Spec, add_declarations
from securellm.admin.ports import Ports
from securellm.identity import Permission

NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"


def add_models(app: FastAPI, ports: Ports) -> None:
    """Serve the resource."""
    spec = Spec(
        kind="model",
        noun="model",
        plural="models",
        pattern=NAME,
        reads=Permission.MODELS_READ,
        writes=Permission.MODELS_WRITE,
        reads_of="installation",
        writes_of="installation",
    )
    add_declarations(app, ports, spec)
