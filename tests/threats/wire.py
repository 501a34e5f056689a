"""A client of bare sockets: it sends what it is given, and remembers what no log may show."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.threats.signing import Call

TIMEOUT_S = 10.0
# So many good requests make a connection trust a client's head and signature as far as it ever does: the first fills
# the cache, the second is learned by the hot path, the third by the verifier, the fourth was answered by all of it.
GOOD = 4
# Shorter ones would be found by chance.
SECRET_BYTES_MIN = 20
_SECRETS = re.compile(
    rb"(?i)(?:(?<![a-z])signature=|x-amz-trailer-signature:|bearer\s+|basic\s+|x-amz-security-token[=:]\s*)"
    rb"([^\s&;,]+)"
)
_AUTHORIZATION = re.compile(rb"(?im)^authorization:[ \t]*([^\r\n]+)")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    continued: bool = False

    @property
    def code(self) -> str:
        """The S3 code of an error, "" for any other answer."""
        found = re.search(rb"<Error>.*?<Code>(\w+)</Code>", self.body, re.DOTALL)
        return found[1].decode() if found else ""

    @property
    def said(self) -> tuple[int, str]:
        return self.status, self.code


@dataclass
class Secrets:
    """What was sent to the gateway and must stay between it and its clients. `answers`: so many came back."""

    sent: set[bytes] = field(default_factory=set, repr=False)
    answers: int = 0

    def note(self, wire: bytes) -> None:
        for pattern in (_SECRETS, _AUTHORIZATION):
            self.sent.update(one for one in pattern.findall(wire) if len(one) >= SECRET_BYTES_MIN)

    def in_text(self, text: bytes) -> list[bytes]:
        """Those of which either half stands in `text`, in any case of letters."""
        lower = text.lower()

        def shows(secret: bytes) -> bool:
            half = max(SECRET_BYTES_MIN, len(secret) // 2)
            return secret[:half].lower() in lower or secret[-half:].lower() in lower

        return [secret for secret in self.sent if shows(secret)]


class Line:
    """One connection."""

    def __init__(self, port: int, secrets: Secrets) -> None:
        self.secrets = secrets
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._left = b""

    def send(self, wire: bytes, *, noted: bool = True) -> None:
        """An answer that came before the end of what is sent is no failure."""
        if noted:
            self.secrets.note(wire)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(wire)

    def done_sending(self) -> None:
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def answer(self, *, head: bool = False) -> Answer:
        """The next answer; `head`: to a HEAD. ConnectionError when there is none."""
        answer = self._answer(head)
        if answer.status == 100:
            after = self._answer(head)
            answer = Answer(after.status, after.headers, after.body, continued=True)
        self.secrets.answers += 1
        return answer

    def _answer(self, head: bool) -> Answer:
        while b"\r\n\r\n" not in self._left:
            self._more()
        start, _, self._left = self._left.partition(b"\r\n\r\n")
        first, *lines = start.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status = int(first.split()[1])
        if head or status in (100, 204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join(self._chunks()))
        return Answer(status, headers, self._take(int(headers["content-length"])))

    def _chunks(self) -> Iterator[bytes]:
        size = -1
        while size:
            while b"\r\n" not in self._left:
                self._more()
            line, _, self._left = self._left.partition(b"\r\n")
            size = int(line, 16)
            yield self._take(size)
            self._take(2)

    def _take(self, count: int) -> bytes:
        while len(self._left) < count:
            self._more()
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise ConnectionError("the gateway closed the connection")
        self._left += data

    def ended(self) -> bool:
        """Whether the gateway closes without another byte."""
        try:
            return not self._left and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.sock.close()


@contextmanager
def line_to(port: int, secrets: Secrets) -> Iterator[Line]:
    line = Line(port, secrets)
    try:
        yield line
    finally:
        line.close()


def ask(port: int, secrets: Secrets, call: Call) -> Answer:
    """One call on a connection of its own."""
    with line_to(port, secrets) as line:
        line.send(call.wire())
        return line.answer(head=call.method == "HEAD")
