"""The engine that asks a server which speaks OpenAI's chat protocol: vLLM, SGLang, LMDeploy, Ollama, `transformers
serve`, a cloud.

The `openai` client sends, and tries again with growing pauses what may pass (429, 5xx, time-outs, broken connections).
A request that the server refuses is that row's error; a server that is gone, or fails or refuses everyone, ends the
run, and the rows that were on their way are asked again by the next.
"""

import asyncio
import base64
import concurrent.futures
import json
import os
import re
import threading
from collections.abc import Iterable

import openai

from utils.captioning.chat import Answer, Request, messages
from utils.errors import Failure, RunError, UsageError

NO_CHAT = "there is no chat at this address (most end in /v1)"
FAILURES_ON_END = 20  # with no answer between them: the fault is the server's


class OpenAIEngine:
    """A model behind `base_url` (else `OPENAI_BASE_URL`, else OpenAI's own), asked `concurrency` requests at a time.

    `names` that it may have there: the first that the server lists, else the first, is asked for.

    The key is `OPENAI_API_KEY`'s and no flag's, so that it stands in no log and no settings file.

    Raises: `UsageError` with a sentence where nobody answers there or the key is refused.
    """

    def __init__(
        self,
        names: list[str],
        *,
        base_url: str | None = None,
        concurrency: int = 16,
        max_retries: int = 6,
        request_seconds: float = 300.0,
        extra_body: dict | None = None,
    ):
        address = {"base_url": base_url or None, "api_key": _key() or "none"}
        try:
            first = openai.OpenAI(**address, max_retries=1, timeout=30)
        # Of an address, or a proxy's, that is none; a SOCKS proxy wants a package. httpx and httpx2 have an InvalidURL each.
        except Exception as error:
            if type(error).__name__ != "InvalidURL" and not isinstance(error, (ValueError, ImportError)):
                raise
            raise UsageError(f"--base_url {base_url}: {_line(error)}") from None
        self.url, served = _look(first)
        self.client = openai.AsyncOpenAI(
            **address, max_retries=max_retries, timeout=request_seconds, http_client=_Client(timeout=request_seconds)
        )
        self.model = next((name for name in names if name in served), names[0])
        self.extra_body, self.request_seconds = extra_body or {}, request_seconds
        self.most, self.at_once = 2 * concurrency, asyncio.Semaphore(concurrency)
        self.open: dict[concurrent.futures.Future, Request] = {}
        self.failed_on_end, self.answered = 0, False
        # A daemon: at Ctrl-C nobody waits for a server that hangs.
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True, name="requests").start()

    def room(self) -> bool:
        return len(self.open) < self.most

    def submit(self, request: Request) -> None:
        self.open[asyncio.run_coroutine_threadsafe(self._ask(request), self.loop)] = request

    def finished(self) -> Iterable[tuple[Request, Answer | Failure]]:
        done, _ = concurrent.futures.wait(self.open, 0.05, return_when=concurrent.futures.FIRST_COMPLETED)
        answered = [future for future in done if future.exception() is None]
        for future in answered or done:  # what was answered is saved before an error ends the run
            yield self.open.pop(future), future.result()

    async def _ask(self, request: Request) -> Answer | Failure:
        try:
            async with self.at_once:
                got = await self._send(request)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise RunError(f"{self.url} refuses the key in OPENAI_API_KEY: {error_text(error)}") from None
        except openai.NotFoundError as error:
            raise RunError(
                f"{self.url} has no model {self.model!r}, or no chat at this address (most end in /v1): {error_text(error)}"
            ) from None
        except openai.APITimeoutError:
            return self._failed(
                "TimeLimit", f"no answer within {self.request_seconds:g} seconds; --request_seconds allows more"
            )
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ == "ConnectError":  # of httpx or httpx2, whichever the client has
                raise RunError(f"{self.url} no longer answers: {error_text(error)}") from None
            return self._failed("ServerError", f"the connection broke: {error_text(error)}")
        except openai.APIStatusError as error:
            if error.status_code in (405, 501):  # of a web server that takes no questions
                raise RunError(f"{self.url}: {NO_CHAT}: {error_text(error)}") from None
            if error.status_code < 500 and error.status_code != 429:
                return self._failed(
                    "RequestRefused", f"the server refuses it ({error.status_code}): {error_text(error)}"
                )
            return self._failed("ServerError", f"the server failed ({error.status_code}): {error_text(error)}")
        except (openai.APIError, json.JSONDecodeError, UnicodeDecodeError) as error:
            return self._failed("ServerError", f"the server's answer cannot be read: {error_text(error)}")
        try:  # the client checks nothing of what a server makes up
            choice = got.choices[0]
            text = choice.message.content or ""
        except (AttributeError, IndexError, KeyError, TypeError):
            text = None
        if not self.answered and isinstance(got, str) and got.lstrip().startswith("<"):
            raise RunError(f"{self.url}: {NO_CHAT}: the answer is a web page")
        if not isinstance(text, str):
            return self._failed("ServerError", f"the server's answer holds no text: {_line(got)[:200]}")
        self.failed_on_end, self.answered = 0, True
        tokens = getattr(getattr(got, "usage", None), "completion_tokens", 0)
        return Answer(text, cut=getattr(choice, "finish_reason", "") == "length", tokens=tokens)

    async def _send(self, request: Request) -> openai.types.chat.ChatCompletion:
        sampling = request.sampling
        fields = {
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": request.seed() & 0x7FFFFFFF,
        }
        if sampling.schema:
            schema = {"name": "caption", "schema": sampling.schema, "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        # What --extra_body names is the user's to set; null leaves a field out that a server does not know.
        fields |= self.extra_body
        return await self.client.chat.completions.create(
            model=self.model,
            messages=messages(request, _picture),
            extra_body={name: value for name, value in fields.items() if value is not None},
        )

    def _failed(self, kind: str, message: str) -> Failure:
        """The failure of one request; raises `RunError` when there have been many with no answer between them."""
        self.failed_on_end += 1
        if self.failed_on_end >= FAILURES_ON_END:
            raise RunError(f"{self.url}: {self.failed_on_end} requests on end have failed; the last: {message}")
        return Failure(kind, message)


class _Client(openai.DefaultAsyncHttpxClient):
    """Bounds a request as a whole: its own limit, which is tried again, is of each wait for the next bytes, and so
    none for a server that sends a byte now and then.
    """

    async def send(self, request, **options):
        try:
            return await asyncio.wait_for(super().send(request, **options), self.timeout.read + 1)
        except asyncio.TimeoutError:
            raise openai.APITimeoutError(request=request) from None


def _key() -> str:
    """The key of `OPENAI_API_KEY`.

    Raises: `UsageError` for one that no header can carry; without it, the HTTP library's message would show the key.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key.isascii() or not key.isprintable():
        raise UsageError(
            "OPENAI_API_KEY holds characters that are part of no key (a line break, or a letter beyond ASCII)"
        )
    return key


def _picture(jpeg: bytes) -> dict:
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _look(client: openai.OpenAI) -> tuple[str, set[str]]:
    """The client's address, and the models that are listed there.

    Raises: `UsageError` when no server that takes the key answers there.
    """
    url, said_of_models = str(client.base_url), ""
    try:
        said_of_models = client.models.with_raw_response.list().text  # raw: it may be a web page
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise UsageError(f"{url} refuses the key in OPENAI_API_KEY: {error_text(error)}") from None
    except openai.APIConnectionError as error:
        raise UsageError(
            f"--base_url {url}: no server answers ({error_text(error)}); is it started, and is the port right?"
        ) from None
    except openai.APIError:
        pass  # it keeps no list of models: the first request will tell
    return url, set(re.findall(r'"id"\s*:\s*"([^"]+)"', said_of_models))


def error_text(error: Exception) -> str:
    """The server's own words, or the cause of a broken connection, in a line."""
    body = getattr(error, "body", None)
    words = body.get("message") if isinstance(body, dict) else None
    return _line(words or error.__cause__ or error)


def _line(words: object) -> str:
    """The first line of `words`, without the key, which some servers repeat."""
    text = str(words).strip().split("\n")[0]
    return (text.replace(_key(), "***") if _key() else text)[:300]
