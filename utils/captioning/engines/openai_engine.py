"""The engine that asks a server with OpenAI's chat protocol: vLLM, SGLang, LMDeploy, Ollama, `transformers serve`, a cloud.

The `openai` client sends the requests and retries what may pass (429, 5xx, time-outs, broken connections) with growing
pauses. A request that the server refuses is that row's error. A server that is gone, or that fails or refuses every
request, aborts the run without marking rows as failed.
"""

import asyncio
import base64
import concurrent.futures
import json
import math
import os
import re
import shlex
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from utils.captioning.chat import Answer, Request, Sound, messages
from utils.captioning.engine_choice import EngineChoice
from utils.captioning.engines.bounded_http import bounded_client
from utils.captioning.model_table import hub_id, known_model
from utils.captioning.server import SERVERS, EngineServer
from utils.cli import about, at_least, flag, json_object
from utils.errors import Failure, RunError, UsageError
from utils.workers.ranks import Ranks
from utils.working_copies import local_path

if TYPE_CHECKING:
    import openai

NO_CHAT = "there is no chat at this address (most end in /v1)"
MOST_ALTERNATIVES = 5  # that every server with log-probabilities gives; OpenAI and vLLM give 20
MAX_FAILURES = 20  # in a row without an answer: the fault is the server's


@dataclass(frozen=True)
class OpenAIOptions:
    """asks a server with OpenAI's chat protocol; its key is read from the variable OPENAI_API_KEY"""

    packages: ClassVar[tuple[str, ...]] = ()
    jpeg: ClassVar[bool] = True
    hears: ClassVar[bool] = True  # where the server's model does

    base_url: str | None = flag(
        None, "the server's address, such as http://localhost:8000/v1 (default: OPENAI_BASE_URL, else OpenAI's)"
    )
    concurrency: int = flag(16, "concurrent requests", at_least(1))
    max_retries: int = flag(6, "retries after a 429, 5xx, time-out or broken connection", at_least(0))
    request_seconds: float = flag(300.0, "time limit of one request", at_least(0.1, float))
    engine_server: str | None = flag(
        None, "start this server on this machine, ask it, and stop it at the end", choices=SERVERS
    )
    server_args: str = flag("", "further arguments of --engine_server, in one string: '--max-model-len 8192'")
    server_seconds: float = flag(1800.0, "time limit of the start of --engine_server", at_least(1, float))
    extra_body: Mapping[str, Any] = flag(
        {}, "further fields of the request, a JSON object; null leaves a field out", json_object, setting=True
    )

    def check(self, model: str) -> None:
        if self.engine_server and self.base_url:
            with about(f"--engine_server {self.engine_server}"):
                raise UsageError(
                    f"starts a server, but --base_url {self.base_url} names another one; pass only one of the two"
                )
        with about(f"--server_args {self.server_args}"):
            self._server_args()
        hub_id(model, self.engine_server or "openai")

    def _server_args(self) -> list[str]:
        try:
            return shlex.split(self.server_args)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def open(self, choice: EngineChoice, ranks: Ranks) -> "OpenAIEngine":
        if not self.engine_server:
            return OpenAIEngine([hub_id(choice.model, "openai"), choice.model], self)
        server = self._start_server(self.engine_server, choice, ranks)
        return OpenAIEngine([server.name, choice.model], replace(self, base_url=server.url))

    def _start_server(self, kind: str, choice: EngineChoice, ranks: Ranks) -> EngineServer:
        with about(f"--engine_server {kind}"):
            if ranks.world > 1:
                raise UsageError("needs a single process; run without accelerate launch or torchrun")
        folder = choice.model_folder(kind, ranks)
        arguments = shlex.split(known_model(choice.model).get("server_args", {}).get(kind, "")) + self._server_args()
        if SERVERS[kind].chat_template and (template := choice.template_path()):
            arguments = ["--chat-template", str(template), *arguments]
        log = local_path(choice.saved_path).with_suffix(f".{kind}.log")
        with about(f"--engine_server {kind}"):
            return EngineServer(kind, folder, hub_id(choice.model, kind), log, self.server_seconds, arguments)


def refuse_server(engine: str, **servers: str | None) -> None:
    """Raises: `UsageError` for a server that `engine`, another than openai, would not ask. `servers`: by their flags."""
    for name, server in servers.items():
        if not server or engine == "openai":
            continue
        with about(f"--{name} {server}"):
            raise UsageError(f"needs --captioner or --summarizer openai, not {engine}")


class OpenAIEngine:
    """A model behind `options.base_url` (else `OPENAI_BASE_URL`, else OpenAI), called by the first of `names` that the
    server lists, else by the first.

    The key comes from `OPENAI_API_KEY` and no flag, so that no log and no settings file holds it.

    Raises: `UsageError` where no server answers or the key is refused.
    """

    def __init__(self, names: list[str], options: OpenAIOptions):
        import openai

        seconds = options.request_seconds
        # A daemon thread: Ctrl-C does not wait for a server that hangs.
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True, name="requests").start()
        with about("OPENAI_API_KEY"):
            key = _key()
        default = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        with about(f"--base_url {options.base_url}" if options.base_url else f"no --base_url, so {default}"):
            try:
                self.client = openai.AsyncOpenAI(
                    base_url=options.base_url or None, api_key=key or "none", max_retries=options.max_retries,
                    timeout=seconds, http_client=bounded_client(seconds),
                )  # fmt: skip
                self.url = str(self.client.base_url)
                _ = urlsplit(self.url).port  # one out of range is a ValueError here, and a group of exceptions below
                served = asyncio.run_coroutine_threadsafe(_served_models(self.client), self.loop).result()
            # An invalid address, or a proxy's; a SOCKS proxy needs a package. httpx and httpx2 have an InvalidURL each.
            except Exception as error:
                if type(error).__name__ != "InvalidURL" and not isinstance(error, (ValueError, ImportError)):
                    raise
                raise UsageError(_line(error)) from None
        self.model = next((name for name in names if name in served), names[0])
        self.options = options
        self.semaphore = asyncio.Semaphore(options.concurrency)
        self.open: dict[concurrent.futures.Future, Request] = {}
        self.failures_in_a_row, self.answered, self.gives_alternatives = 0, False, True

    def room(self) -> bool:
        return len(self.open) < 2 * self.options.concurrency

    def submit(self, request: Request) -> None:
        self.open[asyncio.run_coroutine_threadsafe(self._ask(request), self.loop)] = request

    def finished(self) -> Iterable[tuple[Request, Answer | Failure]]:
        done, _ = concurrent.futures.wait(self.open, 0.05, return_when=concurrent.futures.FIRST_COMPLETED)
        answered = [future for future in done if future.exception() is None]
        for future in answered or done:  # answers are saved before an error ends the run
            yield self.open.pop(future), future.result()

    async def _ask(self, request: Request) -> Answer | Failure:
        import openai

        try:
            async with self.semaphore:
                got = await self._send(request)
        except (openai.APIError, json.JSONDecodeError, UnicodeDecodeError) as error:
            return self._failed(*self._failure_of(error))
        try:  # the client does not validate what a server makes up
            choice = got.choices[0]
            text = choice.message.content or ""
        except (AttributeError, IndexError, KeyError, TypeError):
            text = None
        if not self.answered and isinstance(got, str) and got.lstrip().startswith("<"):
            raise RunError(f"{self.url}: {NO_CHAT}: the answer is a web page")
        if not isinstance(text, str):
            return self._failed("ServerError", f"the server's answer holds no text: {_line(got)[:200]}")
        self.failures_in_a_row, self.answered = 0, True
        tokens = getattr(getattr(got, "usage", None), "completion_tokens", 0)
        cut = getattr(choice, "finish_reason", "") == "length"
        return Answer(text, cut=cut, tokens=tokens, alternatives=_alternatives(choice))

    async def _send(self, request: Request) -> Any:
        """The server's answer; without log-probabilities from one that refuses to give them."""
        import openai

        with_alternatives = bool(request.sampling.alternatives) and self.gives_alternatives
        try:
            return await self._create(request, with_alternatives)
        except openai.APIStatusError as error:
            if not with_alternatives or "logprob" not in str(error).lower():
                raise
        if self.gives_alternatives:
            print(f"{self.url} returns no log-probabilities: answers count as 0 or 1")
        self.gives_alternatives = False
        return await self._create(request, False)

    async def _create(self, request: Request, with_alternatives: bool) -> Any:
        sampling = request.sampling
        fields: dict[str, Any] = {
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": request.seed() & 0x7FFFFFFF,
        }
        if sampling.schema:
            schema = {"name": "caption", "schema": sampling.schema, "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        if with_alternatives:
            fields |= {"logprobs": True, "top_logprobs": min(sampling.alternatives, MOST_ALTERNATIVES)}
        # --extra_body overrides all of them; null leaves out a field that a server does not know.
        fields |= self.options.extra_body
        chat: Any = messages(request, _part)
        return await self.client.chat.completions.create(
            model=self.model, messages=chat, extra_body={k: value for k, value in fields.items() if value is not None}
        )

    def _failure_of(self, error: Exception) -> tuple[str, str]:
        """Type and message of the failure of one request.

        Raises: `RunError` for what would fail every request.
        """
        import openai

        text = error_text(error)
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        if status in (401, 403):
            raise RunError(f"{self.url} refuses the key in OPENAI_API_KEY: {text}") from None
        if status == 404:
            raise RunError(
                f"{self.url} has no model {self.model!r}, or no chat API at this address (most end in /v1): {text}"
            ) from None
        if status in (405, 501):  # a web server without a chat
            raise RunError(f"{self.url}: {NO_CHAT}: {text}") from None
        if status and status < 500 and status != 429:
            return "RequestRefused", f"the server refuses the request ({status}): {text}"
        if status:
            return "ServerError", f"the server failed ({status}): {text}"
        if isinstance(error, openai.APITimeoutError):
            seconds = self.options.request_seconds
            return "TimeLimit", f"no answer within {seconds:g} seconds; --request_seconds allows more"
        if isinstance(error, openai.APIConnectionError):
            if type(error.__cause__).__name__ == "ConnectError":  # of httpx or httpx2, whichever the client has
                raise RunError(f"{self.url} no longer answers: {text}") from None
            return "ServerError", f"the connection broke: {text}"
        return "ServerError", f"the server's answer cannot be read: {text}"

    def _failed(self, kind: str, message: str) -> Failure:
        """The failure of one request. Raises: `RunError` when there were many without an answer in between."""
        self.failures_in_a_row += 1
        if self.failures_in_a_row >= MAX_FAILURES:
            raise RunError(f"{self.url}: {self.failures_in_a_row} requests in a row have failed; the last: {message}")
        return Failure(kind, message)


def _alternatives(choice: Any) -> list[tuple[str, dict[str, float]]]:
    """`Answer.alternatives`; none where the server gives none, or others than its protocol says."""
    try:
        return [
            (one.token, {other.token: math.exp(min(0.0, other.logprob)) for other in one.top_logprobs})
            for one in choice.logprobs.content
        ]
    except (AttributeError, TypeError, ValueError):
        return []


def _key() -> str:
    """The key in `OPENAI_API_KEY`.

    Raises: `UsageError` for one that an HTTP header cannot hold; the HTTP library's own message would show the key.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key.isascii() or not key.isprintable():
        raise UsageError("holds characters that no key contains (a line break, or non-ASCII letters)")
    return key


def _part(part: bytes | Sound) -> dict:
    if isinstance(part, Sound):
        return {"type": "input_audio", "input_audio": {"data": base64.b64encode(part.wav).decode(), "format": "wav"}}
    url = "data:image/jpeg;base64," + base64.b64encode(part).decode()
    return {"type": "image_url", "image_url": {"url": url}}


async def _served_models(client: "openai.AsyncOpenAI") -> set[str]:
    """The models that the server lists.

    Raises: `UsageError` when no server answers, or it refuses the key.
    """
    import openai

    try:
        asked = client.with_options(max_retries=1, timeout=30).models.with_raw_response
        listed = (await asked.list()).text  # raw: it may be a web page
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise UsageError(f"the server refuses the key in OPENAI_API_KEY: {error_text(error)}") from None
    except openai.APIConnectionError as error:
        raise UsageError(
            f"no server answers ({error_text(error)}); has it been started, and is the port right?"
        ) from None
    except openai.APIError:
        return set()  # a server without a list of models: the first request will show
    return set(re.findall(r'"id"\s*:\s*"([^"]+)"', listed))


def error_text(error: Exception) -> str:
    """The server's message, or the cause of a broken connection, in one line."""
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return _line(message or error.__cause__ or error)


def _line(message: object) -> str:
    """The first line of `message`, without the key, which some servers repeat."""
    text = str(message).strip().split("\n")[0]
    return (text.replace(_key(), "***") if _key() else text)[:300]
