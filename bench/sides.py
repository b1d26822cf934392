"""The two sides and the upstream they share, each as its own process."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench.load import Job
from bench.processes import Process, free_ports
from bench.upstream import answer

_GATEWAY_CORE, _LOAD_CORE = 0, 1
_KEY = "slb-bench-key-9fK2mQ7xLr4TzW8v"
_SENTENCE = "The patient asks when the results of the second examination will be ready and who will explain them. "
_TEXT = (_SENTENCE * 11)[:1024]
"""1 KB of ordinary prose: the guard reads all of it and finds nothing."""

_MOCK = """\
worker_processes 1; pid mock.pid; events { worker_connections 512; }
http {
  access_log off; keepalive_requests 1000000000; default_type application/json;
  server { listen 127.0.0.1:%(port)d backlog=512; location / { return 200 '%(answer)s'; } }
}
"""
_PROXY = """\
worker_processes 1; pid proxy.pid; events { worker_connections 512; }
http {
  access_log off; keepalive_requests 1000000000;
  upstream json { server 127.0.0.1:%(json)d; keepalive 64; keepalive_requests 1000000000; }
  upstream sse { server 127.0.0.1:%(sse)d; keepalive 64; keepalive_requests 1000000000; }
  proxy_http_version 1.1; proxy_set_header Connection "";
  server {
    listen 127.0.0.1:%(port)d backlog=512;
    location /json/ { proxy_pass http://json/; }
    location /sse/ { proxy_pass http://sse/; }
  }
}
"""
_GATEWAY = """\
[server]
listen = "127.0.0.1:%d"

[storage]
url = "sqlite:///data"

[[tenants]]
id = "bench"
budget = { month = "100000.00 USD", hard = true }
limits = { requests_per_minute = 100000000, tokens_per_minute = 10000000000, parallel = 1000 }
guard = "strict"

[[keys]]
tenant = "bench"
secret = "env:BENCH_KEY"
models = ["json", "sse"]
"""
_ROUTE = """
[[providers]]
id = "{name}"
kind = "openai-compatible"
base_url = "http://127.0.0.1:{port}/v1"
limits = {{ requests_per_minute = 100000000 }}

[[models]]
name = "{name}"
route = [{{ provider = "{name}", model = "{name}" }}]
price = {{ input_per_million = "0.15 USD", output_per_million = "0.60 USD" }}
context_window = 128000
"""


class Side(NamedTuple):
    """One way to the upstream, and what is asked of it."""

    name: str
    process: Process
    chat: Job
    stream: Job


def start(stack: ExitStack, folder: Path, nginx: str) -> tuple[Side, Side]:
    """The gateway and nginx's bare reverse proxy, before one upstream. Each ends with the stack."""
    json_port, sse_port, proxy_port, gateway_port = free_ports(4)
    files = {
        "mock.conf": _MOCK % {"port": json_port, "answer": answer().decode("ascii")},
        "proxy.conf": _PROXY % {"port": proxy_port, "json": json_port, "sse": sse_port},
        "securellm.toml": _GATEWAY % gateway_port
        + _ROUTE.format(name="json", port=json_port)
        + _ROUTE.format(name="sse", port=sse_port),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")

    def run(command: list[str], port: int, core: int, environ: dict[str, str] | None = None) -> Process:
        process = Process(command, port=port, folder=folder, core=core, environ=environ)
        stack.callback(process.stop)
        return process

    # Started by root, nginx would give its worker to a user who cannot enter the folder.
    directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    web = [nginx, "-p", str(folder), "-e", "stderr", "-g", directives, "-c"]
    securellm = str(Path(sys.executable).with_name("securellm"))
    run([*web, "mock.conf"], json_port, _LOAD_CORE)
    run([sys.executable, "-m", "bench.upstream", str(sse_port)], sse_port, _LOAD_CORE)
    proxy = run([*web, "proxy.conf"], proxy_port, _GATEWAY_CORE)
    serve = [securellm, "serve", "--config", str(folder / "securellm.toml")]
    gateway = run(serve, gateway_port, _GATEWAY_CORE, {"BENCH_KEY": _KEY})

    def job(root: str, model: str) -> Job:
        return Job(f"{root}/v1/chat/completions", _KEY, model, _TEXT, stream=model == "sse")

    ours, theirs = f"http://127.0.0.1:{gateway_port}", f"http://127.0.0.1:{proxy_port}"
    return (
        Side("gateway", gateway, job(ours, "json"), job(ours, "sse")),
        Side("nginx", proxy, job(f"{theirs}/json", "json"), job(f"{theirs}/sse", "sse")),
    )
