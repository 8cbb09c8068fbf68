from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from drydock.report import Answer, Contract, Feature, GoldenRow, Label, Malformed
from drydock.report.model import FeatureValue
from drydock.tools import predict_client
from drydock.tools.predict_client import RowAnswer
from tests.support import examples
from tests.support.http_server import Request, Response, serve

LIMITS = examples.policy(limits={"start_seconds": 1, "request_seconds": 1}).limits


def trained(request: Request, contract: Contract = examples.CONTRACT) -> Response:
    """What a contract says that the model answers."""
    try:
        features = json.loads(request.body)["features"]
        row = next(row for row in contract.golden if list(row.features) == features)
    except (ValueError, KeyError, StopIteration):
        return Response(400)
    answer = row.model_dump(include=row.answer_fields)
    return Response(200, json.dumps({"predictions": [answer]}).encode())


def asked(
    answer: Callable[[Request], Response | None], contract: Contract = examples.CONTRACT
) -> tuple[tuple[Answer, ...], tuple[Malformed, ...]]:
    with serve(answer) as host:
        return anyio.run(predict_client.send_requests, f"http://{host}", contract, LIMITS)


def timeless(answer: Answer) -> Answer:
    """An answer without its time, which no test can know."""
    return answer.model_copy(update={"duration_seconds": 0.0})


def test_every_golden_row_is_sent_and_then_what_no_client_should_send() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return trained(request)

    answers, malformed = asked(answer)
    assert tuple(map(timeless, answers)) == (
        timeless(examples.answer(examples.SMALL)),
        timeless(examples.answer(examples.LARGE)),
    )
    assert {request.path for request in seen} == {"/predict"}
    golden, rest = seen[:2], seen[2:]
    assert [(request.method, json.loads(request.body)) for request in golden] == [
        ("POST", {"features": [1.0, 2.0]}),
        ("POST", {"features": [8.0, 9.0]}),
    ]
    assert {request.headers["Content-Type"] for request in golden} == {"application/json"}
    assert [(each.name, request.method, request.body) for each, request in zip(malformed, rest, strict=True)] == [
        ("cut short", "POST", b'{"features": [1.0, 2.'),
        ("nothing", "POST", b""),
        ("another key", "POST", b'{"rows": []}'),
        ("a feature too few", "POST", b'{"features": [1.0]}'),
        ("a feature too many", "POST", b'{"features": [1.0, 2.0, 1.0]}'),
        ("a string for a number", "POST", b'{"features": ["many", 2.0]}'),
        ("not a number", "POST", b'{"features": [NaN, 2.0]}'),
        ("a missing value", "POST", b'{"features": [null, 2.0]}'),
        ("plain text", "POST", b'{"features": [1.0, 2.0]}'),
        ("GET", "GET", b""),
    ]
    types = {each.name: request.headers["Content-Type"] for each, request in zip(malformed, rest, strict=True)}
    assert types.pop("plain text") == "text/plain"
    assert set(types.values()) == {"application/json"}


def test_a_regression_is_asked_for_its_values() -> None:
    answers, _ = asked(partial(trained, contract=examples.REGRESSION), examples.REGRESSION)
    assert tuple(map(timeless, answers)) == (
        Answer(expected=examples.CHEAP, status=200, value=181.3),
        Answer(expected=examples.DEAR, status=200, value=-20.0),
    )


def test_words_are_sent_as_words_and_what_is_wrong_stands_in_the_first_place_of_its_kind() -> None:
    answers, _ = asked(partial(trained, contract=examples.MIXED), examples.MIXED)
    assert tuple(map(timeless, answers)) == (
        timeless(examples.answer(examples.OPEN)),
        timeless(examples.answer(examples.SHUT)),
    )
    bodies = {name: body for name, (_, body, _) in predict_client.create_malformed_requests(examples.MIXED).items()}
    assert bodies == {
        "cut short": b'{"features": ["open", 2.0, "it burns',
        "nothing": b"",
        "another key": b'{"rows": []}',
        "a feature too few": b'{"features": ["open", 2.0]}',
        "a feature too many": b'{"features": ["open", 2.0, "it burns", 1.0]}',
        "a string for a number": b'{"features": ["open", "many", "it burns"]}',
        "a number for a string": b'{"features": [1.0, 2.0, "it burns"]}',
        "not a number": b'{"features": ["open", NaN, "it burns"]}',
        "a missing value": b'{"features": [null, 2.0, "it burns"]}',
        "plain text": b'{"features": ["open", 2.0, "it burns"]}',
        "GET": b"",
    }


def test_where_all_are_words_none_is_sent_for_a_number() -> None:
    row = examples.OPEN.model_copy(update={"features": ("it burns",)})
    text = examples.MIXED.model_copy(update={"features": (Feature(name="text", type="string"),), "golden": (row,)})
    names = list(predict_client.create_malformed_requests(text))
    assert names == [
        *("cut short", "nothing", "another key", "a feature too few", "a feature too many", "a number for a string"),
        *("a missing value", "plain text", "GET"),
    ]


@pytest.mark.parametrize(
    ("values", "sent"),
    [(("open", "shut"), '"unknown 0"'), (("unknown 0", "open"), '"unknown 1"'), ((0, 1, 3), "2"), ((0.5, 1.5), "0")],
)
def test_a_value_that_no_category_has_is_sent_if_the_server_must_refuse_it(
    values: tuple[Label, ...], sent: str
) -> None:
    feature = Feature(name="state", type="category", values=values)
    contract = examples.MIXED.model_copy(update={"features": (feature, *examples.MIXED.features[1:])})
    assert "an unknown category" not in predict_client.create_malformed_requests(contract)
    requests = predict_client.create_malformed_requests(contract, rejects_unknown=True)
    assert requests["an unknown category"][1].decode() == f'{{"features": [{sent}, 2.0, "it burns"]}}'
    # A model without categories has none to refuse.
    assert "an unknown category" not in predict_client.create_malformed_requests(
        examples.CONTRACT, rejects_unknown=True
    )


def test_each_type_is_sent_as_json_has_it_and_gets_a_value_of_another_type() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return trained(request, examples.TYPED)

    answers, _ = asked(answer, examples.TYPED)
    assert [request.body for request in seen[:2]] == [
        b'{"features": ["Basel", 3, true, 12.5, null]}',
        b'{"features": ["Bern", 0, false, 1.0, "Ana"]}',
    ]
    assert [answer.label for answer in answers] == [1, 2]
    bodies = {name: body for name, (_, body, _) in predict_client.create_malformed_requests(examples.TYPED).items()}
    assert bodies == {
        "cut short": b'{"features": ["Basel", 3, true, 12.5, nul',
        "nothing": b"",
        "another key": b'{"rows": []}',
        "a feature too few": b'{"features": ["Basel", 3, true, 12.5]}',
        "a feature too many": b'{"features": ["Basel", 3, true, 12.5, null, 1.0]}',
        "a string for a number": b'{"features": ["Basel", "many", true, 12.5, null]}',
        "a number for a boolean": b'{"features": ["Basel", 3, 1, 12.5, null]}',
        "a number for a string": b'{"features": [1.0, 3, true, 12.5, null]}',
        "not a number": b'{"features": ["Basel", NaN, true, 12.5, null]}',
        "a missing value": b'{"features": [null, 3, true, 12.5, null]}',
        "plain text": b'{"features": ["Basel", 3, true, 12.5, null]}',
        "GET": b"",
    }


@pytest.mark.parametrize(
    ("features", "row", "wrong"),
    [
        # Null is wrong in the first feature that does not take it, and right if all do.
        (
            [Feature(name="a", type="number", missing=True), Feature(name="b", type="string")],
            (None, "x"),
            {
                "a string for a number": b'["many", "x"]',
                "a number for a string": b"[null, 1.0]",
                "not a number": b'[NaN, "x"]',
                "a missing value": b"[null, null]",
            },
        ),
        (
            [Feature(name="a", type="boolean", missing=True)],
            (True,),
            {"a number for a boolean": b"[1]"},
        ),
        # The values of a category say what is wrong for it.
        (
            [Feature(name="a", type="category", values=(1, 2))],
            (2,),
            {"a string for a number": b'["many"]', "not a number": b"[NaN]", "a missing value": b"[null]"},
        ),
        (
            [Feature(name="a", type="category", values=(0.5, 2))],
            (0.5,),
            {"a string for a number": b'["many"]', "not a number": b"[NaN]", "a missing value": b"[null]"},
        ),
        (
            [Feature(name="a", type="category", values=("x",))],
            ("x",),
            {"a number for a string": b"[1.0]", "a missing value": b"[null]"},
        ),
    ],
)
def test_what_is_wrong_depends_on_the_features_types(
    features: list[Feature], row: tuple[FeatureValue, ...], wrong: dict[str, bytes]
) -> None:
    golden = (examples.TYPED_ROW.model_copy(update={"features": row}),)
    contract = examples.TYPED.model_copy(update={"features": tuple(features), "golden": golden})
    always = {
        *("cut short", "nothing", "another key", "a feature too few", "a feature too many", "plain text", "GET"),
    }
    requests = predict_client.create_malformed_requests(contract)
    assert {name: body for name, (_, body, _) in requests.items() if name not in always} == {
        name: b'{"features": %s}' % body for name, body in wrong.items()
    }


def test_private_values_are_sent_and_not_kept() -> None:
    answers, _ = asked(partial(trained, contract=examples.TYPED), examples.TYPED)
    kept = [answer.expected for answer in answers]
    assert [row.features for row in kept if isinstance(row, GoldenRow)] == [
        ("Basel", 3, True, 12.5, "…"),
        ("Bern", 0, False, 1.0, "…"),
    ]


@pytest.mark.parametrize(
    "contract",
    [examples.MULTILABEL, examples.SEVERAL_VALUES, examples.OUTLIERS, examples.CLUSTERING],
    ids=lambda contract: contract.name,
)
def test_each_task_is_asked_for_all_fields_of_its_answer(contract: Contract) -> None:
    answers, _ = asked(partial(trained, contract=contract), contract)
    assert list(map(timeless, answers)) == [timeless(examples.right_answer(row)) for row in contract.golden]


@pytest.mark.parametrize(
    ("contract", "prediction"),
    [
        *(
            (examples.MULTILABEL, prediction)
            for prediction in (
                b'{"labels": "red", "probabilities": {"red": 0.75, "round": 0.5}}',
                b'{"labels": [["red"]], "probabilities": {"red": 0.75, "round": 0.5}}',
                b'{"label": "red", "probabilities": {"red": 0.75, "round": 0.5}}',
                b'{"labels": ["red", "round"]}',
            )
        ),
        *(
            (examples.SEVERAL_VALUES, prediction)
            for prediction in (
                b'{"value": 47.5}',
                b'{"values": [47.5, 400.0]}',
                b'{"values": {"north": "47.5", "height": 400.0}}',
                b'{"values": {"north": NaN, "height": 400.0}}',
                b'{"values": {"north": 1%s, "height": 400.0}}' % (b"0" * 400),
            )
        ),
        *(
            (examples.OUTLIERS, prediction)
            for prediction in (
                b'{"label": 1}',
                b'{"label": 1, "score": "0.125"}',
                b'{"label": 1, "score": true}',
                b'{"label": [1], "score": 0.125}',
            )
        ),
        *((examples.CLUSTERING, prediction) for prediction in (b'{"labels": [0]}', b'{"label": null}')),
    ],
    ids=lambda value: value.name if isinstance(value, Contract) else value[:60].decode(),
)
def test_an_answer_of_another_form_than_the_tasks_has_no_fields(contract: Contract, prediction: bytes) -> None:
    answers, _ = asked(lambda _: Response(200, b'{"predictions": [%s]}' % prediction), contract)
    assert answers[0].status == 200
    assert not answers[0].answer_fields


def test_each_malformed_request_keeps_its_own_status() -> None:
    codes = iter([200, 200, 400, 401, 402, 403, 404, 405, 406, 408, 500, 503])
    _, malformed = asked(lambda _: Response(next(codes)))
    assert [each.status for each in malformed] == [400, 401, 402, 403, 404, 405, 406, 408, 500, 503]


def test_an_answer_is_timed_and_so_is_the_wait_for_one_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr("drydock.tools.predict_client.time", SimpleNamespace(monotonic=lambda: next(ticks) / 8))
    assert [answer.duration_seconds for answer in asked(trained)[0]] == [0.125, 0.125]
    assert [answer.duration_seconds for answer in asked(lambda _: Response(500))[0]] == [0.125, 0.125]
    assert [answer.duration_seconds for answer in asked(lambda _: None)[0]] == [0.125, 0.125]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"predictions": []}', b'{"predictions": [{}]}', b'{"predictions": [null]}'),
        b'{"predictions": [{"label": "small", "probabilities": {"small": "0.75", "large": "0.25"}}]}',
        b'{"predictions": [{"label": "small", "probabilities": {"small": true, "large": false}}]}',
        b'{"predictions": [{"label": "small", "probabilities": {"small": NaN, "large": 0.25}}]}',
        b'{"predictions": [{"label": "small", "probabilities": {"small": 1e999, "large": 0.25}}]}',
        # One row was asked for.
        b'{"predictions": [%s, %s]}' % ((b'{"label": "small", "probabilities": {"small": 0.75, "large": 0.25}}',) * 2),
        b'{"predictions": ' + b"[" * 100_000,
    ],
    ids=lambda body: body[-40:].decode(),
)
def test_an_answer_of_another_form_has_no_label(body: bytes) -> None:
    answers, _ = asked(lambda _: Response(200, body))
    assert timeless(answers[0]) == Answer(expected=examples.SMALL, status=200)


@pytest.mark.parametrize(
    "prediction",
    [
        *(
            b"{}",
            b"null",
            b"181.3",
            b'{"value": null}',
            b'{"value": "181.3"}',
            b'{"value": true}',
            b'{"value": [181.3]}',
        ),
        *(b'{"value": NaN}', b'{"value": 1e999}'),
        b'{"label": "small", "probabilities": {"small": 0.75, "large": 0.25}}',
    ],
    ids=lambda prediction: prediction.decode(),
)
def test_an_answer_of_another_form_has_no_value(prediction: bytes) -> None:
    answers, _ = asked(lambda _: Response(200, b'{"predictions": [%s]}' % prediction), examples.REGRESSION)
    assert timeless(answers[0]) == Answer(expected=examples.CHEAP, status=200)


def test_a_whole_number_is_a_value() -> None:
    answers, _ = asked(lambda _: Response(200, b'{"predictions": [{"value": 181}]}'), examples.REGRESSION)
    assert answers[0].value == 181.0


def test_a_value_is_no_answer_to_a_classification() -> None:
    answers, _ = asked(lambda _: Response(200, b'{"predictions": [{"value": 181.3}]}'))
    assert timeless(answers[0]) == Answer(expected=examples.SMALL, status=200)


def test_a_server_that_closes_its_connection_after_a_bad_request_has_answered_all_of_them() -> None:
    with closing(lambda: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as host:
        answers, malformed = anyio.run(predict_client.send_requests, f"http://{host}", examples.CONTRACT, LIMITS)
    assert [answer.status for answer in answers] == [400, 400]
    assert {each.status for each in malformed} == {400}


@contextmanager
def closing(answer: Callable[[], bytes]) -> Iterator[str]:
    """A server that answers once, does not say that it closes, and cuts what is sent on the old connection."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(1)
                    connection.recv(65536)
                    connection.sendall(answer())
                    # Long enough for a client to send the next one here, were it to keep the connection.
                    connection.settimeout(0.05)
                    with suppress(TimeoutError):
                        connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


TABLE = """
  sl  local_address rem_address   st tx_queue
   0: {}:{:04X} 00000000:0000 0A 00000000:00000000
   1: 0100007F:B4AD 00000000:0000 0A 00000000:00000000
"""


@pytest.mark.parametrize(
    ("sockets", "words"),
    [
        ("", "it ended with exit code 3"),
        ("\n", "it was running after 5 s, and did not listen on port 8000"),
        (
            TABLE.format("0100007F", 8000),
            "it listens on port 8000 for its own container only: let it listen on 0.0.0.0",
        ),
        (TABLE.format("00000000", 8000), "it was running and listening after 5 s"),
        (
            TABLE.format("00000000", 8080),
            "it was running after 5 s, and did not listen on port 8000, but on 8080: EXPOSE that port",
        ),
    ],
)
def test_how_it_ended_is_read_from_its_sockets(sockets: str, words: str) -> None:
    assert predict_client.describe_exit(3, sockets, 8000) == words


def test_no_answer_at_all_is_status_0() -> None:
    answers, malformed = asked(lambda _: None)
    assert [answer.status for answer in answers] == [0, 0]
    assert {each.status for each in malformed} == {0}


def test_an_answer_that_never_ends_is_none() -> None:
    ended = Event()

    def dripping() -> Iterator[bytes]:
        while not ended.wait(0.02):
            yield b" "

    with serve(lambda _: Response(200, dripping())) as host:
        limits = LIMITS.model_copy(update={"request_seconds": 0.1})
        answers, malformed = anyio.run(predict_client.send_requests, f"http://{host}", examples.CONTRACT, limits)
        ended.set()
    assert [answer.status for answer in answers] == [0, 0]
    assert {each.status for each in malformed} == {0}


def test_no_proxy_stands_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert [answer.status for answer in asked(trained)[0]] == [200, 200]


def test_readiness_is_waited_for() -> None:
    answers = [Response(503, b"loading"), None, Response(200)]
    with serve(lambda _: answers.pop(0)) as host:
        ready_seconds, reason = anyio.run(predict_client.wait_until_ready, f"http://{host}", LIMITS)
    assert ready_seconds is not None
    assert reason == ""


def test_waiting_for_readiness_ends_with_the_last_reason() -> None:
    with serve(lambda _: Response(503, b"the first golden row is wrong")) as host:
        ended = anyio.run(predict_client.wait_until_ready, f"http://{host}", LIMITS)
    assert ended == (None, "/readyz answered 503: the first golden row is wrong")
    # A sentence of the client's, which goes on here.
    with serve(lambda _: None) as host:
        ended = anyio.run(predict_client.wait_until_ready, f"http://{host}", LIMITS)
    assert ended == (None, "no answer on the exposed port: Server disconnected without sending a response")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    ready_seconds, reason = anyio.run(partial(predict_client.wait_until_ready, url, LIMITS))
    assert ready_seconds is None
    assert reason.startswith("no answer on the exposed port: ")


ROWS = [[float(number), "a"] for number in range(250)]


def predicted(
    answer: Callable[[Request], Response | None], median_seconds: float = 0.0
) -> tuple[RowAnswer | None, ...]:
    with serve(answer) as host:
        return anyio.run(predict_client.predict_rows, f"http://{host}", ROWS, LIMITS, median_seconds)


def read_rows(request: Request) -> list[list[Any]]:
    """The rows of a request: one row alone, or a list of rows."""
    rows: list[Any] = json.loads(request.body)["features"]
    return rows if isinstance(rows[0], list) else [rows]


def echo(request: Request) -> Response:
    return Response(200, json.dumps({"predictions": [{"value": row[0]} for row in read_rows(request)]}).encode())


def test_rows_are_sent_in_lists_of_100_and_answered_in_their_order() -> None:
    lengths: list[int] = []

    def answer(request: Request) -> Response:
        lengths.append(len(read_rows(request)))
        return echo(request)

    assert predicted(answer) == tuple(RowAnswer(200, {"value": row[0]}) for row in ROWS)
    assert lengths == [100, 100, 50]
    # In half of request_seconds.
    lengths.clear()
    predicted(answer, median_seconds=0.01)
    assert lengths == [50] * 5
    lengths.clear()
    predicted(answer, median_seconds=7)
    assert set(lengths) == {1}


def test_a_list_that_is_refused_is_sent_again_in_halves() -> None:
    def answer(request: Request) -> Response:
        return Response(422) if [7.0, "a"] in read_rows(request) else echo(request)

    answers = predicted(answer)
    assert answers[7] == RowAnswer(422)
    assert [number for number, each in enumerate(answers) if each != RowAnswer(200, {"value": float(number)})] == [7]


def test_a_server_that_takes_no_lists_is_asked_row_by_row() -> None:
    def answer(request: Request) -> Response:
        is_list = isinstance(json.loads(request.body)["features"][0], list)
        return Response(400) if is_list else echo(request)

    assert predicted(answer) == tuple(RowAnswer(200, {"value": row[0]}) for row in ROWS)


@pytest.mark.parametrize(
    ("response", "first"),
    [
        (Response(500), RowAnswer(500)),
        (None, RowAnswer(0)),
        (Response(200, b'{"predictions": [null]}'), RowAnswer(200)),
        (Response(200, b'{"predictions": 5}'), RowAnswer(200)),
        (Response(200, b"[" * 100_000), RowAnswer(200)),
    ],
)
def test_after_a_list_without_any_answer_nothing_more_is_sent(response: Response | None, first: RowAnswer) -> None:
    assert predicted(lambda _: response) == (*[first] * 100, *[None] * 150)


def test_what_is_not_answered_when_time_is_up_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough for the first list on a busy machine.
    monkeypatch.setattr(predict_client, "MAX_PREDICT_SECONDS", 2)
    ended = Event()

    def answer(request: Request) -> Response:
        if [100.0, "a"] in read_rows(request):
            ended.wait(30)
        return echo(request)

    with serve(answer) as host:
        limits = LIMITS.model_copy(update={"request_seconds": 30})
        answers = anyio.run(predict_client.predict_rows, f"http://{host}", ROWS, limits, 0.0)
        ended.set()
    assert [each is None for each in answers] == [False] * 100 + [True] * 150


def test_the_contract_is_what_model_answers() -> None:
    def read_contract(answer: Response | None) -> object:
        with serve(lambda request: answer if (request.method, request.path) == ("GET", "/model") else None) as host:
            return anyio.run(predict_client.read_contract, f"http://{host}", LIMITS)

    assert read_contract(Response(200, b'{"contract": {"features": ["a"]}, "revision": "1"}')) == {"features": ["a"]}
    for body in (b"", b"{}", b"[]", b"[" * 10_000):
        assert read_contract(Response(200, body)) is None
    assert read_contract(None) is None


def test_both_images_are_timed_in_turn_and_without_their_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr("drydock.tools.predict_client.time", SimpleNamespace(monotonic=lambda: next(ticks) / 8))
    seen: list[tuple[str, object]] = []

    def answer_as(name: str) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            seen.append((name, json.loads(request.body)["features"]))
            return Response(200)

        return answer

    with serve(answer_as("old")) as old, serve(answer_as("new")) as new:
        urls = [f"http://{old}", f"http://{new}"]
        rows: list[list[list[object]]] = [[[1.0], [2.0]], [["a"], ["b"]]]
        assert anyio.run(partial(predict_client.measure_medians, urls, rows, LIMITS)) == [0.125, 0.125]
    assert seen[:6] == [("old", [2.0]), ("new", ["b"]), ("old", [1.0]), ("new", ["a"]), ("old", [2.0]), ("new", ["b"])]
    assert len(seen) == 2 * (1 + predict_client.TIMED_ROWS)
