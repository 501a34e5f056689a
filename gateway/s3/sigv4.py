"""Verification of SigV4 in headers, and the choice between the three forms that a request may be signed in.

This runs on every request, so the common case is straight: everything that follows from the part of
Authorization before `Signature=` (which a client repeats for a day) is remembered as one `_Known`, after a
signature made with it was good, and for heads that were recognised (`frontend/shapes.py`) whatever requests of
one second have in common as one `_Alike`. Rules, each in the order in which it is answered:

  * header and query authentication together, or several in one query: InvalidArgument
  * no authentication: AccessDenied; not of the SigV4 shape: AuthorizationHeaderMalformed
  * access key unknown: InvalidAccessKeyId; a session token: InvalidToken (this gateway issues none)
  * x-amz-date (or Date) unreadable: AccessDenied; over 15 minutes off: RequestTimeTooSkewed
  * `host` or a present x-amz-* header not signed, or a signed header absent: AccessDenied
  * the signature itself: SignatureDoesNotMatch

Measured with timeit, CPython 3.11: what costs is the number of Python-level steps, not SHA-256. Hence one
itemgetter and one %-template for all signed headers, one set comparison for all unsigned ones, and pre-keyed
HMAC states.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from hmac import compare_digest
from operator import itemgetter
from typing import Any, Protocol

from gateway.s3.authentication import (
    ALGORITHM,
    PAYLOAD_WORDS,
    SKEW_S,
    Authenticated,
    Query,
    SigningKey,
    amz_date,
    analyse_query,
    candidates,
    check_all_signed,
    check_names,
    check_payload,
    parse_credential,
    raw_query_sorted,
    same,
    signing_key,
)
from gateway.s3.conditions import parse_http_date
from gateway.s3.errors import S3Error
from gateway.s3.presigned import verify_presigned
from gateway.s3.sigv2 import verify_sigv2

__all__ = ["Authenticated", "Verifier"]

# One per client, day and set of signed headers. Full, it is emptied: learning again costs 20 µs, bookkeeping
# more.
KNOWN_MAX = 4096
# Shapes of requests; as many as a server knows at a time.
ALIKE_MAX = 256
# Names of unsigned headers remembered as harmless, per _Known; beyond it they are looked at one by one.
HARMLESS_MAX = 128

_FIELD = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]*)\s*")
_sha256 = hashlib.sha256


class _Known:
    """All that follows from one Authorization header but for its signature."""

    __slots__ = (
        "access_key",
        "block",
        "day",
        "harmless",
        "key",
        "names",
        "pick",
        "prefix",
        "scope",
        "secret",
    )

    def __init__(self, access_key: str, secret: str, day: str, region: str, signed: str) -> None:
        names = signed.split(";")
        self.access_key = access_key
        self.secret = secret
        self.day = day
        self.scope = f"{day}/{region}/s3/aws4_request"
        self.prefix = ALGORITHM + "\n%s\n" + self.scope + "\n%s"
        self.key: SigningKey = signing_key(secret, day, region)
        self.names = names
        self.pick: Callable[[dict[str, str]], Any] = itemgetter(*names)
        lines = "".join(f"{name.replace('%', '%%')}:%s\n" for name in names)
        self.block = lines + "\n" + signed.replace("%", "%%") + "\n"
        self.harmless = {"authorization", *names}


class Places(Protocol):
    """Where in `Recognised.values` the date, the signature and the range are; `range_at` -1: there is none."""

    @property
    def date_at(self) -> int: ...

    @property
    def signature_at(self) -> int: ...

    @property
    def range_at(self) -> int: ...


class Recognised(Protocol):
    """A request head of which all headers but `values` are those of others with the same `shape`."""

    @property
    def method(self) -> str: ...

    @property
    def target(self) -> str: ...

    @property
    def shape(self) -> Places | None: ...

    @property
    def values(self) -> tuple[bytes, ...]: ...


class _Alike:
    """What requests of one shape and second have in common: the canonical request is the method, the path, `before`,
    the range if it is signed, and `after`; `inner` has hashed what stands before its digest in the string to sign."""

    __slots__ = (
        "after",
        "before",
        "date",
        "date_at",
        "inner",
        "known",
        "outer",
        "range_at",
        "signature_at",
        "signed_at",
    )

    def __init__(self, shape: Places, known: _Known, headers: dict[str, str]) -> None:
        self.known = known
        date = headers["x-amz-date"]
        self.date = date.encode("ascii")
        self.signed_at = amz_date(date) or 0
        self.date_at = shape.date_at
        self.signature_at = shape.signature_at
        self.range_at = shape.range_at if "range" in known.names else -1
        block = known.block % known.pick({**headers, "range": "\0"})
        before, _, after = block.partition("\0")
        self.before = f"\n\n{before}"
        self.after = after + headers["x-amz-content-sha256"]
        self.inner = known.key.inner.copy()
        self.inner.update((known.prefix % (date, "")).encode("latin-1"))
        self.outer = known.key.outer

    def signed(self, head: Recognised) -> bool:
        """Whether the signature is that of this head. Of another second none is."""
        values = head.values
        if values[self.date_at] != self.date:
            return False
        before, at = self.before, self.range_at
        if at >= 0:
            before += values[at].decode("ascii")
        canonical = f"{head.method}\n{head.target}{before}{self.after}"
        inner, outer = self.inner.copy(), self.outer.copy()
        inner.update(_sha256(canonical.encode("latin-1")).hexdigest().encode("ascii"))
        outer.update(inner.digest())
        return compare_digest(outer.hexdigest().encode("ascii"), values[self.signature_at])


class Verifier:
    """Checks signatures against `secret_of` (access key → secret, None when unknown). A changed or withdrawn
    secret counts at once: it is asked for on every request. `domain` as in address.py (SigV2 signs the
    bucket, not the host).
    """

    def __init__(self, secret_of: Callable[[str], str | None], domain: str = "") -> None:
        self._secret_of = secret_of
        self._domain = domain
        self._known: dict[str, _Known] = {}
        self._alike: dict[Places | None, _Alike] = {}

    def verify_alike(self, head: Recognised, now: float) -> str | None:
        """The access key, if the signature is good by what `learn_alike` was told of requests of this shape and
        second. Else None, which says nothing: `verify` judges. A request without a query; half of what `verify`
        takes."""
        alike = self._alike.get(head.shape)
        if alike is None or not -SKEW_S <= now - alike.signed_at <= SKEW_S:
            return None
        known = alike.known
        if self._secret_of(known.access_key) != known.secret:
            return None
        return known.access_key if alike.signed(head) else None

    def learn_alike(self, head: Recognised, headers: dict[str, str]) -> None:
        """After `verify` has accepted a request. Not for clients that sign their own idea of the canonical form, or
        what differs from call to call beside range and date."""
        known = self._known.get(headers["authorization"].rpartition("Signature=")[0])
        if known is None or head.shape is None or "amz-sdk-invocation-id" in known.names:
            return
        alike = _Alike(head.shape, known, headers)
        if not alike.signed(head):
            return
        if len(self._alike) >= ALIKE_MAX:
            self._alike.clear()
        self._alike[head.shape] = alike

    def verify(
        self, method: str, raw_path: str, raw_query: str, headers: dict[str, str], now: float
    ) -> Authenticated:
        """Raises S3Error. All text is latin-1 wire text, header names are lower case, `now` seconds since
        the epoch. An accepted payload word says how the body is signed; checking the body is payload.py's."""
        authorization = headers.get("authorization")
        query = analyse_query(raw_query)
        if query.kind or authorization is None:
            return self._verify_query(method, raw_path, raw_query, query, headers, now)
        head, _, signature = authorization.rpartition("Signature=")
        known = self._known.get(head)
        fresh = known is None or self._secret_of(known.access_key) != known.secret
        if fresh or known is None:
            known, signature = self._learn(authorization)
        date = headers.get("x-amz-date") or _from_date_header(headers, known)
        signed_at = amz_date(date)
        if signed_at is None:
            raise S3Error("AccessDenied", "The request's date is missing or malformed.")
        if not -SKEW_S <= now - signed_at <= SKEW_S:
            raise S3Error("RequestTimeTooSkewed")
        payload = headers.get("x-amz-content-sha256")
        if payload not in PAYLOAD_WORDS:
            if payload is None:
                raise S3Error("InvalidRequest", "x-amz-content-sha256 is missing.")
            check_payload(payload)
        unseen = not known.harmless.issuperset(headers)
        if unseen:
            check_all_signed(headers, known.harmless)
        if date[:8] != known.day:
            raise S3Error("AuthorizationHeaderMalformed", "The credential's date is not the request's.")
        try:
            block = known.block % known.pick(headers)
        except KeyError:
            raise S3Error("AccessDenied", "A signed header is missing.") from None
        # Values are taken as they are; those with spaces to trim or collapse fail here and pass as a variant.
        canonical = f"{method}\n{raw_path}\n{query.text}\n{block}{payload}"
        digest = _sha256(canonical.encode("latin-1")).hexdigest()
        expected = known.key.sign((known.prefix % (date, digest)).encode("latin-1"))
        if not compare_digest(expected.encode("latin-1"), signature.encode("latin-1")):
            self._try_variants(known, method, raw_path, raw_query, query, headers, payload, date, signature)
        if fresh or unseen:
            self._remember(head, authorization, signature, known, headers)
        return Authenticated(known.access_key, payload, signature, date, known.scope, known.key.key, False)

    def _verify_query(
        self, method: str, raw_path: str, raw_query: str, query: Query, headers: dict[str, str], now: float
    ) -> Authenticated:
        if "authorization" in headers:
            raise S3Error("InvalidArgument", "Only one way of authentication is allowed.")
        if query.kind == "v4":
            return verify_presigned(method, raw_path, raw_query, query, headers, now, self._secret_of)
        if query.kind == "v2":
            return verify_sigv2(method, raw_path, raw_query, headers, now, self._secret_of, self._domain)
        raise S3Error("AccessDenied", "The request is not signed.")

    def _learn(self, authorization: str) -> tuple[_Known, str]:
        access_key, day, region, signed, signature = _parse_authorization(authorization)
        secret = self._secret_of(access_key)
        if secret is None:
            raise S3Error("InvalidAccessKeyId")
        return _Known(access_key, secret, day, region, signed), signature

    def _try_variants(
        self,
        known: _Known,
        method: str,
        raw_path: str,
        raw_query: str,
        query: Query,
        headers: dict[str, str],
        payload: str,
        date: str,
        signature: str,
    ) -> None:
        """The way of a client that signs its own idea of the canonical form, and of every forgery (at most a
        dozen hashes). Untrimmed header values come here too. Raises SignatureDoesNotMatch."""
        queries = dict.fromkeys((query.text, raw_query_sorted(raw_query)))
        made = candidates(
            known.key, method, raw_path, queries, known.names, headers, (payload,), date, known.scope
        )
        if not any(same(one, signature) for one in made):
            raise S3Error("SignatureDoesNotMatch")

    def _remember(
        self, head: str, authorization: str, signature: str, known: _Known, headers: dict[str, str]
    ) -> None:
        """Only after a good signature, so that strangers can neither fill the memo nor the set of names. Not
        for the rare header in which Signature is not last: `head` would not determine the rest."""
        if not authorization.endswith("Signature=" + signature):
            return
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        if len(known.harmless) + len(headers) <= HARMLESS_MAX:
            known.harmless.update(headers)
        self._known[head] = known


def _parse_authorization(value: str) -> tuple[str, str, str, str, str]:
    """(access key, day, region, signed header names, signature)."""
    if not value.strip():
        raise S3Error("AccessDenied", "The Authorization header is empty.")
    algorithm, _, rest = value.partition(" ")
    if algorithm != ALGORITHM:
        if algorithm in ("AWS", "AWS4-ECDSA-P256-SHA256"):
            raise S3Error("InvalidRequest", f"Please sign with {ALGORITHM}.")
        raise S3Error("AuthorizationHeaderMalformed", f"Authorization must begin with {ALGORITHM}.")
    fields: dict[str, str] = {}
    for item in rest.split(","):
        found = _FIELD.fullmatch(item)
        if found is None or found[1] in fields:
            raise S3Error("AuthorizationHeaderMalformed")
        fields[found[1]] = found[2]
    if len(fields) != 3 or not fields["Signature"]:
        raise S3Error("AuthorizationHeaderMalformed")
    credential = parse_credential(fields["Credential"])
    if credential is None:
        raise S3Error(
            "AuthorizationHeaderMalformed", "The credential must be KEY/YYYYMMDD/region/s3/aws4_request."
        )
    names = check_names(fields["SignedHeaders"], "AuthorizationHeaderMalformed")
    if "x-amz-security-token" in names:
        raise S3Error("InvalidToken")
    return (*credential, fields["SignedHeaders"], fields["Signature"])


def _from_date_header(headers: dict[str, str], known: _Known) -> str:
    """x-amz-date's form of a signed Date header, for clients that send only that one; "" when there is
    none."""
    date = parse_http_date(headers.get("date", ""))
    if date is None or "date" not in known.names:
        return ""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(date))
