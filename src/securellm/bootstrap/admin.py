"""The admin app over an application: what operators may see and change, in its own words."""

from typing import Any

from securellm.bootstrap.wiring import Application


def build_admin_app(application: Application) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app
