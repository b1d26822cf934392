"""Real clients as processes before one gateway: every feature each of them has, through every upstream."""

import pytest
from tests.clients.matrix import CELLS, Cell
from tests.clients.programs.telling import PIXEL
from tests.clients.runs import COMMAND_OUTPUT, FORECAST, THOUGHT, Matrix, sentence

FINISHES = {"stop", "completed", "end_turn", "STOP"}
"""How each dialect calls an answer that came to its own end."""


def each(feature: str) -> pytest.MarkDecorator:
    """Every cell of a feature that has something to show."""
    return pytest.mark.parametrize(
        "cell",
        [
            pytest.param(cell, id=cell.id.removesuffix(f"-{feature}"))
            for cell in CELLS
            if cell.feature.name == feature and cell.lacked is None and cell.refusal is None
        ],
    )


@each("answer")
@pytest.mark.requirement("GW-1", "GW-2", "GW-3", "GW-5")
def test_an_answer_arrives_whole(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert (saw["text"], saw["finish"] in FINISHES) == (sentence(cell), True), saw


@each("stream")
@pytest.mark.requirement("GW-1", "GW-2", "GW-3", "GW-5", "GW-8")
def test_a_stream_arrives_in_pieces_to_its_own_end(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert (saw["text"], saw["finish"] in FINISHES) == (sentence(cell), True), saw
    assert saw["pieces"] >= 1
    if cell.lane.name != "aimock":  # which numbers no event
        assert saw.get("rising", True)


@each("usage")
@pytest.mark.requirement("PR-3")
def test_usage_is_what_the_provider_billed(clients: Matrix, cell: Cell) -> None:
    saw, bill = clients.saw(cell), clients.billed(cell)
    assert (saw["input"], bill["cached"]) == (1000, 300)
    assert "output" in saw
    assert saw == {name: bill[name] for name in saw}


@each("stream_usage")
@pytest.mark.requirement("PR-3")
def test_usage_of_a_stream_is_what_the_provider_billed(clients: Matrix, cell: Cell) -> None:
    saw, bill = clients.saw(cell), clients.billed(cell)
    assert (saw["input"], bill["cached"]) == (1000, 300)
    assert "output" in saw
    assert saw == {name: bill[name] for name in saw}


@each("tools")
@pytest.mark.requirement("GW-1", "GW-2", "GW-3", "GW-5")
def test_a_tool_is_called_and_answered(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert saw["calls"] == [["forecast", FORECAST]]
    assert saw["text"] in (sentence(cell), None)


@each("parallel_tools")
@pytest.mark.requirement("GW-1", "GW-2", "GW-3", "GW-5")
def test_two_tools_are_called_at_once_and_both_answered(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert saw["calls"] == [["forecast", FORECAST], ["climate", FORECAST]]
    assert saw["text"] == sentence(cell)


@each("tool_stream")
@pytest.mark.requirement("GW-1", "GW-2", "GW-3", "GW-5")
def test_arguments_of_tools_come_whole_out_of_a_stream(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    if "ran" in saw:
        assert (saw["ran"].splitlines()[0], saw["text"]) == (COMMAND_OUTPUT, sentence(cell))
        return
    calls = saw["calls"]
    assert calls
    assert calls == [[name, FORECAST] for name, _ in zip(("forecast", "climate"), calls, strict=False)]


@each("structured")
@pytest.mark.requirement("GW-1", "GW-2", "GW-3", "GW-5")
def test_an_answer_fits_the_schema_and_the_provider_was_given_it(clients: Matrix, cell: Cell) -> None:
    assert clients.saw(cell)["value"] == FORECAST
    if cell.lane.name != "aimock":
        assert any('"days"' in entry.text and '"integer"' in entry.text for entry in clients.requests(cell))


@each("image")
@pytest.mark.requirement("GW-1", "GW-2", "GW-3", "GW-5")
def test_an_image_reaches_the_provider_as_it_was(clients: Matrix, cell: Cell) -> None:
    assert clients.saw(cell)["text"] == sentence(cell)
    assert any(PIXEL in entry.text for entry in clients.requests(cell))


@each("thinking")
@pytest.mark.requirement("GW-2", "GW-3", "GW-5")
def test_reasoning_is_shown_apart_from_the_answer(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert (saw["thought"], saw["text"]) == (THOUGHT, sentence(cell))


@each("choices")
@pytest.mark.requirement("GW-1", "GW-5")
def test_several_choices_and_their_logprobs_pass(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert (saw["texts"], saw.get("logprobs", [True, True])) == ([sentence(cell)] * 2, [True, True])


@each("embeddings")
@pytest.mark.requirement("GW-4", "GW-5")
def test_each_text_gets_its_vector(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert (saw["vectors"], saw["size"] > 1, saw.get("same", True)) == (2, True, True)


@each("count")
@pytest.mark.requirement("GW-3", "GW-5")
def test_tokens_are_counted_without_an_answer(clients: Matrix, cell: Cell) -> None:
    assert clients.saw(cell)["tokens"] > 0


@each("models")
@pytest.mark.requirement("GW-4", "GW-5")
def test_models_are_listed_in_the_clients_shape(clients: Matrix, cell: Cell) -> None:
    assert f"{cell.lane.provider(cell.face.dialect)}-plain" in clients.saw(cell)["names"]


@each("chain")
@pytest.mark.requirement("GW-2")
def test_a_turn_continues_an_earlier_one(clients: Matrix, cell: Cell) -> None:
    assert clients.saw(cell)["text"] == sentence(cell)
    assert any('"previous_response_id"' in entry.text for entry in clients.requests(cell))


@each("stored")
@pytest.mark.requirement("GW-2", "GW-6")
def test_a_stored_answer_is_shown_again_until_it_is_deleted(clients: Matrix, cell: Cell) -> None:
    assert clients.saw(cell) == {
        "text": sentence(cell),
        "same": True,
        "said": ["user"],
        "unstoppable": 400,
        "gone": 404,
    }


@each("conversation")
@pytest.mark.requirement("GW-6")
def test_a_conversation_is_kept_until_it_is_deleted(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert (saw["text"], saw["items"], saw["left"], saw["gone"]) == (sentence(cell), 4, True, 404)
    assert [told["word"] for told in saw["metadata"]] == [f"{cell.lane.name}-{cell.client.name}", "other", "other"]


@each("batch")
@pytest.mark.requirement("GW-6")
def test_a_batch_is_answered_request_by_request(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert saw["texts"] == [sentence(cell)] * 2
    assert (saw["listed"], saw["gone"]) == (True, 404)


@each("unknown")
@pytest.mark.requirement("GW-1", "GW-2", "GW-3")
def test_what_nobody_knows_yet_passes_both_ways(clients: Matrix, cell: Cell) -> None:
    assert clients.saw(cell)["text"] == sentence(cell)
    if cell.face.dialect != "generate":
        assert any('"x_future"' in entry.text for entry in clients.requests(cell))


@each("silence")
@pytest.mark.requirement("GW-10")
def test_heartbeats_disturb_no_client(clients: Matrix, cell: Cell) -> None:
    assert clients.saw(cell)["text"] == sentence(cell)


@each("ids")
@pytest.mark.requirement("GW-9")
def test_the_client_learns_the_id_of_its_record(clients: Matrix, cell: Cell) -> None:
    assert clients.saw(cell)["request_id"] in clients.recorded()


@each("repeat")
@pytest.mark.requirement("GW-11")
def test_the_same_idempotency_key_gets_the_same_answer(clients: Matrix, cell: Cell) -> None:
    first, second = clients.saw(cell)["ids"]
    assert first == second


@each("bad_key")
@pytest.mark.requirement("GW-9")
def test_a_wrong_key_is_an_error_that_keeps_it_secret(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert saw["classes"], "the client raised nothing"
    assert saw["status"] in (401, None)
    assert "no-such-key" not in saw["message"]
    _is_named(cell, saw["classes"])


@each("bad_model")
@pytest.mark.requirement("GW-9")
def test_an_unknown_model_is_an_error(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert saw["classes"], "the client raised nothing"
    assert saw["status"] in (404, None)
    _is_named(cell, saw["classes"])


@each("no_money")
@pytest.mark.requirement("GW-9", "FN-2")
def test_a_spent_budget_is_asked_once(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert saw["classes"], "the client raised nothing"
    assert saw["status"] in (402, None)
    assert clients.denials(cell, "poor") == 1 or "no_money" in cell.face.notes
    _is_named(cell, saw["classes"])


@each("rate")
@pytest.mark.requirement("GW-9", "LM-1")
def test_a_rate_limit_is_an_error_or_waited_for(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert (saw["status"], saw["text"]) == (429, sentence(cell))
    _is_named(cell, saw["classes"])


@each("broken")
@pytest.mark.requirement("GW-8", "GW-9")
def test_an_error_in_the_middle_of_a_stream_is_an_error(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert saw["classes"], "the client raised nothing"
    _is_named(cell, saw["classes"])


@each("cut")
@pytest.mark.requirement("GW-8")
def test_a_stream_that_ends_too_early_is_an_error(clients: Matrix, cell: Cell) -> None:
    saw = clients.saw(cell)
    assert saw["classes"], "the client raised nothing"
    _is_named(cell, saw["classes"])


@pytest.mark.parametrize(
    "cell",
    [pytest.param(cell, id=cell.id) for cell in CELLS if cell.refusal],
)
@pytest.mark.requirement("GW-7", "GW-9")
def test_what_is_refused_by_design_is_refused_with_its_reason(clients: Matrix, cell: Cell) -> None:
    saw, refusal = clients.attempt(cell), cell.refusal
    assert refusal is not None
    assert saw.get("status") == refusal.status, saw
    assert refusal.says in saw["message"]


def _is_named(cell: Cell, classes: list[str]) -> None:
    """The error is of the class that the client's users catch."""
    wanted = cell.face.raises.get(cell.feature.name)
    assert wanted is None or wanted in classes, (wanted, classes)
