from __future__ import annotations

import json
import socket
from functools import partial

import anyio
import pytest

import smoke
from report import Answer
from tests.ci import examples
from tests.ci.server import Request, Response, serving

LIMITS = examples.policy(limits={"start_seconds": 1, "request_seconds": 1}).limits


def trained(request: Request) -> Response:
    """What the example contract says that the model answers."""
    try:
        features = json.loads(request.body)["features"]
    except ValueError:
        return Response(400)
    row = next(row for row in examples.CONTRACT.golden if list(row.features) == features)
    return Response(
        200, json.dumps({"predictions": [{"label": row.label, "probabilities": row.probabilities}]}).encode()
    )


def test_every_golden_row_and_one_malformed_request_are_sent() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return trained(request)

    with serving(answer) as host:
        answers, malformed_status = anyio.run(smoke.ask, f"http://{host}", examples.CONTRACT, LIMITS)
    assert answers == (examples.answer(examples.SMALL), examples.answer(examples.LARGE))
    assert malformed_status == 400
    assert [request.path for request in seen] == ["/predict"] * 3
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(seen[-1].body)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"predictions": []}', b'{"predictions": [{}]}', b'{"predictions": [null]}']
)
def test_an_answer_of_another_form_has_no_label(body: bytes) -> None:
    with serving(lambda _: Response(200, body)) as host:
        answers, _ = anyio.run(smoke.ask, f"http://{host}", examples.CONTRACT, LIMITS)
    assert answers[0] == Answer(expected=examples.SMALL, status=200)


def test_no_answer_at_all_is_status_0() -> None:
    with serving(lambda _: None) as host:
        answers, malformed_status = anyio.run(smoke.ask, f"http://{host}", examples.CONTRACT, LIMITS)
    assert [answer.status for answer in answers] == [0, 0]
    assert malformed_status == 0


def test_readiness_is_waited_for() -> None:
    answers = [Response(503, b"loading"), None, Response(200)]
    with serving(lambda _: answers.pop(0)) as host:
        ready_seconds, reason = anyio.run(smoke.wait_until_ready, f"http://{host}", LIMITS)
    assert ready_seconds is not None
    assert reason == ""


def test_waiting_for_readiness_ends_with_the_last_reason() -> None:
    with serving(lambda _: Response(503, b"the first golden row is wrong")) as host:
        ended = anyio.run(smoke.wait_until_ready, f"http://{host}", LIMITS)
    assert ended == (None, "/readyz answered 503: the first golden row is wrong")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    ready_seconds, reason = anyio.run(partial(smoke.wait_until_ready, url, LIMITS))
    assert ready_seconds is None
    assert reason.startswith("no answer on the exposed port: ")
