"""Who may reach the page: asked of the guard itself, in front of an application that serves everything."""

import asyncio
import base64

import pytest

from noise_search.studio.serve import Guard, check_reach

PASSWORD = "correct horse"


async def everything(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


def ask(path="/", host="127.0.0.1", password=None, **headers):
    """Status and headers of an answer."""
    sent = []

    async def send(message):
        sent.append(message)

    given = {"host": f"{host}:7860", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {"type": "http", "path": path, "headers": [(k.encode(), v.encode()) for k, v in given.items()]}
    asyncio.run(Guard(everything, host, password)(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


def basic(password):
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


def test_the_page_is_served_and_fetches_nothing_from_elsewhere():
    status, headers = ask(origin="http://127.0.0.1:7860")
    assert status == 200 and b"default-src 'self'" in headers[b"content-security-policy"]
    assert b"http" not in headers[b"content-security-policy"]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:8000", "null", "http://evil.127.0.0.1"])
def test_other_pages_may_not_ask(origin):
    assert ask(origin=origin)[0] == 403
    assert ask(origin=origin, host="192.168.1.5", password=PASSWORD, authorization=basic(PASSWORD))[0] == 403


def test_a_name_that_was_made_to_mean_this_machine_is_turned_away():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/", "headers": [(b"host", b"evil.example:7860")]}
    asyncio.run(Guard(everything, "127.0.0.1", None)(scope, None, send))
    assert sent[0]["status"] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_names_of_this_machine_are_served(host):
    assert ask(host=host)[0] == 200


@pytest.mark.parametrize("given", [None, basic("wrong"), basic(""), "Basic ???", "Bearer " + PASSWORD, PASSWORD])
def test_without_the_password_nothing_is_served(given):
    more = {} if given is None else {"authorization": given}
    for path in ("/", "/picture/0001/0.png", "/export/0001.zip", "/gradio_api/queue/join"):
        status, headers = ask(path, host="192.168.1.5", password=PASSWORD, **more)
        assert status == 401 and b"www-authenticate" in headers
    assert ask(host="192.168.1.5", password=PASSWORD, authorization=basic(PASSWORD))[0] == 200


@pytest.mark.parametrize(
    "path", ["upload", "file=/etc/passwd", "file/etc/passwd", "proxy=http://a", "info", "upload_progress"]
)
def test_what_gradio_serves_beside_the_page_is_closed(path):
    assert ask(f"/gradio_api/{path}")[0] == 404


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("0.0.0.0", None, ["a"]), "NOISE_SEARCH_PASSWORD"),
        (("studio.example", "long enough", None), "--models"),
        (("127.0.0.1", "short", None), "5 characters"),
    ],
)
def test_other_machines_need_a_password_and_a_list_of_models(given, said):
    with pytest.raises(ValueError, match=said):
        check_reach(*given)


def test_this_machine_needs_neither():
    check_reach("127.0.0.1", None, None)
    check_reach("localhost", None, None)
    check_reach("0.0.0.0", PASSWORD, ["shapes-flow"])
