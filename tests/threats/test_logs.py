"""At debug level, one request of every kind: neither log says what was proven with, only who it was."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from tests.threats.conftest import TOKEN, Front
from tests.threats.signing import Call, with_body


def every_kind(front: Front, target: str) -> list[Call]:
    later = int(time.time()) + 60
    get, put = front.anna.call("GET", target), front.anna.call("PUT", target, b"body")
    framed, chunks = front.anna.chunked(target, [b"signed chunk"])
    urls = [front.anna.presigned("GET", target), front.anna.presigned_v2("GET", target, later)]
    authorization = get.headers["authorization"]
    return [
        get,
        put,
        *urls,
        front.anna.presigned("PUT", target),
        with_body(framed, b"".join(chunks)),
        with_body(framed, b"".join(chunks[:1])),
        front.bert.call("GET", target),
        front.bert.presigned("GET", target),
        get.but(authorization=authorization + "0"),
        get.but(authorization=authorization.replace("AKANNA", "AKNOBODY")),
        get.but(authorization=authorization.replace("Credential", "Crdential")),
        get.but(x_amz_security_token="a-session-token-of-another-account-0123456789"),
        get.but(host="a b"),
        get.but(authorization=f"Bearer {TOKEN}"),
        get.but(authorization=authorization + "\0"),
        front.anna.call("GET", f"/nowhere/{TOKEN[:4]}?acl"),
        front.anna.call("GET", f"{target}?torrent"),
        front.anna.call("PUT", target, b"x", {"x-amz-copy-source": "/anna/missing"}),
        front.anna.call("PUT", target, b"x", {"x-amz-server-side-encryption-customer-key": "c2VjcmV0" * 5}),
        front.anna.presigned("GET", target, "0"),
        front.anna.presigned("GET", f"{target}-\xe9"),
        *(
            replace(url, target=url.target.replace("?", mark))
            for url in urls
            for mark in ("%3F", "&", "%253f")
        ),
        Call("GET", front.anna.presigned("GET", target).target + " HTTP/1.1 x", {"host": front.host}),
    ]


@pytest.mark.parametrize("node", ["front", "public"])
def test_no_secret_token_or_signature_in_any_log(
    node: str, target: str, request: pytest.FixtureRequest
) -> None:
    front: Front = request.getfixturevalue(node)
    calls = every_kind(front, target)
    for call in calls:
        front.ask(call)
        if found := call.headers.get("x-amz-server-side-encryption-customer-key"):
            front.secrets.sent.add(found.encode())
    logs = front.logs()
    assert front.secrets.in_text(logs) == []
    assert len(front.secrets.sent) > len(calls)
    # They were logged at all, by who it was and what it was about.
    assert logs.count(target.encode()) >= 10
    assert b"anna" in logs
    for pattern in (b"[0-9a-f]{64}", b"x-amz-signature", b"signature=", b"credential="):
        found_in = re.search(b".*" + pattern + b".*", logs, re.IGNORECASE)
        assert found_in is None, found_in and found_in[0]


def test_the_command_lines_and_environment_of_a_node_hold_no_secret(front: Front, public: Front) -> None:
    """Anybody on the machine may read the first; workers inherit the second."""
    for one in (front, public):
        pids = one.gateway.worker_pids()
        assert pids
        for pid in pids:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                assert one.secrets.in_text(file.read()) == []
