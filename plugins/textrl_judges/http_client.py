"""One POST of JSON with a time-out, retries and back-off; every error names the address.

The standard library's client: a judge asks a few times a second, and one dependency less is one less.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from textrl.errors import UserError
from textrl_judges.settings import HttpJudgeSettings

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_S = 60.0
_LARGEST_REPLY = 16 * 2**20


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token sent to one host must not follow a redirect to another."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follow nothing; the status becomes an error."""
        return


class Again(Exception):
    """An attempt failed in a way that may pass; carries the reason and how long the server asks to wait."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class JsonClient:
    """Posts JSON to one address."""

    def __init__(self, settings: HttpJudgeSettings, token: str | None) -> None:
        """Keep the settings; nothing is sent.

        Args:
            settings: Of the judge.
            token: Goes into the Authorization header.
        """
        self.settings = settings
        self.name = shown(settings.url)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if urlsplit(settings.url).hostname in ("127.0.0.1", "localhost", "::1"):
            handlers.append(urllib.request.ProxyHandler({}))  # no proxy reaches this machine's own loop
        self._opener = urllib.request.build_opener(*handlers)

    def post(self, body: Mapping[str, Any], stop: threading.Event) -> Any:
        """Return the decoded JSON answer.

        Args:
            body: What to send.
            stop: Set by the caller to end the waiting between attempts.

        Raises:
            UserError: When there is no good answer after all attempts; names the address.
        """
        # A column of a table may hold dates and the like.
        data = json.dumps(body, default=str).encode("ascii")
        attempts = self.settings.retries + 1
        for attempt in range(attempts):
            try:
                return self._attempt(data)
            except Again as failure:
                reason = str(failure)
                if attempt + 1 == attempts:
                    break
                backoff = self.settings.backoff_s * 2**attempt
                wait_s = backoff if failure.wait_s is None else max(failure.wait_s, backoff)
                if stop.wait(min(wait_s, _LONGEST_WAIT_S)):
                    break
        tried = f"{attempts} attempt" + ("s" if attempts > 1 else "")
        raise UserError(
            f"{self.name} gave no answer after {tried} ({reason}); start it, or raise timeout_s or retries."
        )

    def _attempt(self, data: bytes) -> Any:
        request = urllib.request.Request(self.settings.url, data=data, headers=self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=self.settings.timeout_s) as reply:
                raw = reply.read(_LARGEST_REPLY + 1)
        except urllib.error.HTTPError as error:
            with error:
                said = " ".join(error.read(500).decode("utf-8", errors="replace").split())[:120]
            if error.code in _AGAIN:
                raise Again(f"status {error.code}", _retry_after(error.headers)) from error
            where = f" and points to {error.headers['Location']}" if "Location" in error.headers else ""
            raise UserError(
                f"{self.name} refuses with the status {error.code}{where} ({said or error.reason})."
            ) from error
        except urllib.error.URLError as error:
            reason = error.reason
            slow = isinstance(reason, TimeoutError)
            raise Again(self._too_slow() if slow else _said(reason)) from error
        except TimeoutError as error:
            raise Again(self._too_slow()) from error
        except (OSError, http.client.HTTPException) as error:
            raise Again(_said(error)) from error
        if len(raw) > _LARGEST_REPLY:
            raise UserError(
                f"{self.name} answered with more than {_LARGEST_REPLY >> 20} MiB; lower batch_size."
            )
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            text = raw[:60].decode("utf-8", errors="replace")
            raise UserError(f"{self.name} answered {text!r}, which is no JSON.") from error

    def _too_slow(self) -> str:
        return f"no answer within {self.settings.timeout_s:g} s"


def shown(url: str) -> str:
    """Return an address for messages: without its query, where keys are often put."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def _retry_after(headers: Message) -> float | None:
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:  # absent, or a date
        return None


def _said(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).lower()
