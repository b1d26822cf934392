"""A process that appends records and says which ones are durable, until it is killed."""

import asyncio
import os
import sys
from pathlib import Path

from tests.unit.audit.logs import SEED, intent

from securellm.audit import SCHEMA, AuditLog, Boot
from securellm.core.clock import SystemClock
from securellm.core.randomness import SystemRandomness
from securellm.storage import GroupCommitWriter

IN_FLIGHT = 24


async def acknowledge(path: Path, first: int) -> None:
    writer = GroupCommitWriter.open(path, SCHEMA)
    log = AuditLog.open(writer, writer_id="w1", seed=SEED, clock=SystemClock(), randomness=SystemRandomness())
    writer.perform(log.appending(Boot(version="0", config_digest="", snapshot="")))
    numbers = iter(range(first, sys.maxsize))

    async def client() -> None:
        for number in numbers:
            await writer.submit(log.appending(intent(number)))
            os.write(1, b"req_%d\n" % number)

    await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    asyncio.run(acknowledge(Path(sys.argv[1]), int(sys.argv[2])))
