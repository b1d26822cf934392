"""kill -9 at seeded moments of a loaded gateway; the provider's own log and the clients' answers are the judges."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.harness import GatewayProcess, Site, UpstreamProcess
from tests.upstream import Entry, marked

CLIENTS = 8
INPUT, OUTPUT = 1_000, 2_000
"""Nanos for one token, as the site's models are priced."""
NOT_YET = 7
"""One start in so many is killed before it is ready."""


class Finished(msgspec.Struct, frozen=True):
    """A 200 that a client read to its end."""

    request_id: str
    stream: bool


class Load:
    """Clients that ask without pause until the gateway dies under them."""

    def __init__(self, port: int, key: str, seed: int) -> None:
        self.finished: list[Finished] = []
        self.first = asyncio.Event()
        self._port = port
        self._key = key
        self._random = random.Random(seed)

    async def client(self, number: int) -> None:
        """Ask on one connection; the death of the gateway ends it."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return
        try:
            while True:
                await self._ask(reader, writer, number)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        model = self._random.choice(("quick", "quick", "slow", "late", "fallback", "messages"))
        stream = self._random.random() < 0.5
        surface = "messages" if model == "messages" else "chat/completions"
        text = f"pergunta {number} {self._random.randrange(10**9):x}"
        body = {"model": model, "stream": stream, "max_tokens": 200, "messages": [{"role": "user", "content": text}]}
        data = json.dumps(body).encode()
        head = (
            f"POST /v1/{surface} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        self.first.set()
        head_bytes = await reader.readuntil(b"\r\n\r\n")
        status, headers = _head(head_bytes)
        whole = False
        if "content-length" in headers:
            await reader.readexactly(int(headers["content-length"]))
            whole = not stream
        else:
            seen = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                seen += (await reader.readexactly(size + 2))[:-2]
                if status == 200 and not whole and (b"data: [DONE]\n" in seen or b"event: message_stop\n" in seen):
                    whole = True
                    self.finished.append(Finished(headers["x-request-id"], stream))
            await reader.readexactly(2)
            return
        assert status == 200, head_bytes
        if whole:
            self.finished.append(Finished(headers["x-request-id"], stream))


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    lines = data.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split(" ")[1]), {name.lower(): value for name, value in pairs}


async def loaded_until(gateway: GatewayProcess, key: str, seed: int, delay: float) -> list[Finished]:
    """Load the gateway, kill it `delay` seconds after the first request, and say what was finished by then."""
    load = Load(gateway.port, key, seed)
    clients = [asyncio.create_task(load.client(number)) for number in range(CLIENTS)]
    await asyncio.wait_for(load.first.wait(), 10)
    await asyncio.sleep(delay)
    await asyncio.to_thread(gateway.kill9)
    await asyncio.wait_for(asyncio.gather(*clients), 10)
    return load.finished


def prepare(site: Site) -> str:
    """Quick, slow and late answers, and one that is first refused elsewhere: an ATTEMPT record for each."""
    site.extra = "[cache]\nenabled = false"
    site.model("quick", "openai", upstream=marked("fake", words=5))
    site.model("slow", "openai", upstream=marked("fake", words=12, between=0.01))
    site.model("late", "openai", upstream=marked("fake", words=3, first_byte=0.06))
    fallback = [
        {"provider": "compatible", "model": marked("fake", status=503, first_byte=0.01)},
        {"provider": "openai", "model": marked("fake", words=4, between=0.01)},
    ]
    site.model("fallback", route=fallback)
    site.tenant("acme", budget="1000.00 USD", guard="standard")
    return site.key()


def torture(directory: Path, seeds: Iterable[int]) -> None:
    """Kill and restart once for each seed on one data folder, then judge."""
    finished: list[Finished] = []
    with UpstreamProcess(directory / "upstream.jsonl") as upstream:
        site = Site(upstream.root)
        key = prepare(site)
        gateway = GatewayProcess(site, directory)
        for index, seed in enumerate(seeds):
            chance = random.Random(seed)
            if index % NOT_YET == NOT_YET - 1:
                gateway.spawn()
                time.sleep(chance.uniform(0.0, 0.6))
                gateway.kill9()
            else:
                gateway.start()
                delay = chance.choice((chance.uniform(0.0, 0.03), chance.uniform(0.0, 0.3)))
                finished += asyncio.run(loaded_until(gateway, key, seed, delay))
            if index % 10 == 0:
                gateway.verify()
        with gateway:
            pass
        gateway.verify()
        upstream.quiet()
        judge(gateway, upstream.entries(), finished)


def judge(gateway: GatewayProcess, log: list[Entry], finished: list[Finished]) -> None:
    """The promises that hold whatever was killed when."""
    records = gateway.records()
    intents = {record["request_id"]: record for record in records if record["type"] == "INTENT"}
    outcomes = {record["request_id"]: record for record in records if record["type"] == "OUTCOME"}
    carried = _carried(records)

    assert Counter(record["request_id"] for record in records if record["type"] == "OUTCOME").most_common(1)[0][1] == 1
    assert outcomes.keys() == intents.keys(), "every INTENT has its one OUTCOME in the end"

    reached = [entry for entry in log if entry.kind in ("request", "partial")]
    assert reached
    for entry in reached:
        request_id = entry.header("x-client-request-id")
        assert request_id in intents, f"the provider saw {request_id}, which was never recorded"
        assert entry.refused is None

    assert finished
    for done in finished:
        outcome = outcomes.get(done.request_id)
        assert outcome is not None, f"a client finished {done.request_id}, which has no OUTCOME"
        assert outcome["status"] == "ok"

    billed = _billed(log)
    for request_id, cost in billed.items():
        counted = outcomes[request_id]["settled"] + outcomes[request_id]["presumed"] + carried.get(request_id, 0)
        assert counted >= cost, f"{request_id} was billed {cost} and counted as {counted}"
    for done in finished:
        outcome = outcomes[done.request_id]
        assert (outcome["settled"], outcome["presumed"]) == (billed[done.request_id], 0)

    balances = gateway.budgets()
    assert sum(row["settled"] for row in balances) == sum(record["settled"] for record in outcomes.values())
    presumed = sum(record["presumed"] for record in outcomes.values()) + sum(carried.values())
    assert sum(row["presumed"] for row in balances) == presumed
    assert sum(row["held"] for row in balances) == 0

    interrupted = [record for record in outcomes.values() if record["code"] == "unknown_outcome"]
    assert interrupted, "no kill interrupted a request: the moments were badly chosen"
    assert presumed > 0
    assert {done.stream for done in finished} == {True, False}


def _carried(records: list[dict[str, Any]]) -> Counter[str]:
    """By request, what earlier attempts left presumed."""
    carried: Counter[str] = Counter()
    for record in records:
        if record["type"] == "ATTEMPT":
            carried[record["request_id"]] += record["presumed"]
    return carried


def _billed(log: list[Entry]) -> Counter[str]:
    """By request, what the provider says it costs, in nanos."""
    names = {entry.order: entry.header("x-client-request-id") or "" for entry in log if entry.kind == "request"}
    billed: Counter[str] = Counter()
    for entry in log:
        if entry.kind == "answer" and entry.usage is not None and entry.request is not None:
            billed[names[entry.request]] += entry.usage["input"] * INPUT + entry.usage["output"] * OUTPUT
    return billed


@pytest.mark.requirement("AU-3", "AU-4", "FN-2")
def test_20_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    torture(tmp_path, range(20))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.requirement("AU-3", "AU-4", "FN-2")
def test_120_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    torture(tmp_path, range(1000, 1120))
