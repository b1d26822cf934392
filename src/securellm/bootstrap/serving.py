"""Both listeners, one lifespan: start together, stop together, and let nothing that has begun go unrecorded."""

import asyncio
import gc
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from securellm.bootstrap.desk import announce, withdraw
from securellm.bootstrap.wiring import Application
from securellm.ingress.protocol import hardened
from securellm.settings import Listen
from securellm.telemetry.logs import logger

_log = logger("serving")

_KEEP_ALIVE = 75

_GARBAGE = 20_000
"""Objects made and not yet freed before cycles are looked for: requests make few, and looking is not free."""


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(application: Application, admin: Any, *, ready: Callable[[str, str | None], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain. `ready` is told both base URLs once requests are accepted.

    Raises OSError when a listener cannot be bound.
    """
    server = application.loaded.config.server
    servers = [_listener(application, application.ingress, server.listen)]
    if server.admin_listen is not None:
        servers.append(_listener(application, admin, server.admin_listen))
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(application.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    chores = (application.follow(), application.keep_credentials(), application.ship())
    following = [loop.create_task(chore) for chore in chores]
    running = [loop.create_task(_run(item)) for item in servers]
    try:
        await _until_started(servers, running)
        urls = [_url(item, tls=server.tls is not None) for item in servers]
        admin_url = urls[1] if len(urls) > 1 else None
        chain = None if server.tls is None else application.loaded.locate(server.tls.cert)
        announce(application.data, admin_url=admin_url, chain=chain)
        _settle_memory()
        ready(urls[0], admin_url)
        _log.info("serving", url=urls[0], admin_url=admin_url)
        stop = loop.create_task(stopping.wait())
        await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
    finally:
        application.ingress.draining = True
        for item in servers:
            item.should_exit = True
        results = await asyncio.gather(*running, return_exceptions=True)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        withdraw(application.data)
        await application.drain()
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(name)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    _log.info("stopped")


def _settle_memory() -> None:
    """What start-up made lives as long as the process: collect once, then never look through it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)


def _listener(application: Application, app: Any, listen: Listen) -> _Server:
    server = application.loaded.config.server
    protocol = hardened(
        request_timeout=server.request_timeout,
        max_headers=server.max_headers,
        refused=lambda cause: application.metrics.unparseable.labels(cause).inc(),
    )
    config = uvicorn.Config(
        app,
        host=listen.host,
        port=listen.port,
        http=protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=4096,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(server.drain)),
        ssl_certfile=None if server.tls is None else str(application.loaded.locate(server.tls.cert)),
        ssl_keyfile=None if server.tls is None else str(application.loaded.locate(server.tls.key)),
    )
    config.load()
    if isinstance(config.ssl, ssl.SSLContext):
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return _Server(config)


async def _run(server: _Server) -> None:
    try:
        await server.serve()
    except SystemExit as error:
        # uvicorn leaves with sys.exit when a port is taken; a process with a journal to close must not.
        raise OSError(f"cannot listen on {server.config.host}:{server.config.port}") from error


async def _until_started(servers: list[_Server], running: "list[asyncio.Task[None]]") -> None:
    while not all(server.started for server in servers):
        for task in running:
            if task.done():
                task.result()
                raise OSError("a listener ended before it began")
        await asyncio.sleep(0.005)


def _url(server: _Server, *, tls: bool) -> str:
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
