"""Many ask at once for what the budget pays for only some."""

import asyncio
import json

import pytest
from tests.harness import Site, governed
from tests.upstream import marked

PAID_FOR = 50
ASKED = 300


async def post(port: int, key: str, number: int) -> tuple[int, bytes]:
    """One request on a connection of its own: its status and whole answer."""
    body = json.dumps(
        {
            "model": "chat",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": f"pergunta {number:03d}"}],
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + body)
        answer = await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]), answer


async def all_at_once(port: int, key: str) -> list[tuple[int, bytes]]:
    return await asyncio.gather(*(post(port, key, number) for number in range(ASKED)))


@pytest.mark.requirement("FN-2")
def test_300_at_once_against_money_for_50_never_overshoot(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Every answer costs 10 input and 100 output tokens at 100 and 1000 dollars per million: 101 000 000 nanos.
    keys: list[str] = []

    def prepare(site: Site) -> None:
        site.model(
            "chat",
            "openai",
            upstream=marked("fake", words=40, input_tokens=10, output_tokens=100, first_byte=0.05),
            price={"input_per_million": "100.00 USD", "output_per_million": "1000.00 USD"},
        )
        site.tenant("acme", budget=f"{PAID_FOR * 0.101 + 0.05:.3f} USD")
        keys.append(site.key())

    with governed(tmp_path_factory.mktemp("race"), prepare) as (gateway, upstream):
        answers = asyncio.run(all_at_once(gateway.port, keys[0]))
        upstream.quiet()
        succeeded = [answer for status, answer in answers if status == 200]
        refused = [(status, answer) for status, answer in answers if status != 200]
        reached = upstream.requests()
        (balance,) = gateway.budgets()
        gateway.stop()
        gateway.verify()
    assert len(reached) <= PAID_FOR
    assert len(succeeded) >= PAID_FOR - 2
    assert {status for status, _ in refused} <= {402, 429}
    assert all(b'"budget_exhausted"' in answer or b'"budget_held"' in answer for _, answer in refused)
    assert all(b"x-should-retry: false" in answer for status, answer in refused if status == 402)
    assert balance["held"] == 0
    assert balance["settled"] + balance["presumed"] == len(reached) * 101_000_000
