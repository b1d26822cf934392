"""Run the fake provider as a process: one JSON line says where it is, SIGTERM ends it."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from tests.upstream.server import FakeUpstream


async def _main(port: int, log: Path | None) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    async with FakeUpstream(port=port, log=log) as upstream:
        sys.stdout.write(json.dumps({"port": upstream.port, "root": upstream.root}) + "\n")
        sys.stdout.flush()
        await done.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A strict fake of the providers.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, default=None)
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.port, arguments.log))
