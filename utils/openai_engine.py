"""The engine that asks a server which speaks OpenAI's chat protocol: vLLM, SGLang, LMDeploy, Ollama, `transformers
serve`, a cloud.

The `openai` client sends, and tries again with growing pauses what may pass (429, 5xx, time-outs, broken connections).
A request that the server refuses is that row's error; a server that is gone, or fails everyone, ends the run, and the
rows that were on their way are asked again by the next.
"""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Iterable

import openai

from utils.arguments import RunError, UsageError
from utils.chat import Answer, Request, messages
from utils.workers import Failure

FAILURES_ON_END = 20  # with no answer between them: the fault is the server's


class OpenAIEngine:
    """A model behind `base_url` (else `OPENAI_BASE_URL`, else OpenAI's own), asked `concurrency` requests at a time.

    The key is `OPENAI_API_KEY`'s and no flag's, so that it stands in no log and no settings file.

    Raises: `UsageError` with a sentence where nobody answers there or the key is refused.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        concurrency: int = 16,
        max_retries: int = 6,
        request_seconds: float = 300.0,
        extra_body: dict | None = None,
    ):
        address = {"base_url": base_url or None, "api_key": os.environ.get("OPENAI_API_KEY") or "none"}
        self.url = _look(openai.OpenAI(**address, max_retries=1, timeout=30))
        self.client = openai.AsyncOpenAI(**address, max_retries=max_retries, timeout=request_seconds)
        self.model, self.extra_body, self.request_seconds = model, extra_body or {}, request_seconds
        self.most, self.at_once = 2 * concurrency, asyncio.Semaphore(concurrency)
        self.open: dict[concurrent.futures.Future, Request] = {}
        self.failed_on_end = 0
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
            raise RunError(f"{self.url} refuses the key in OPENAI_API_KEY: {said(error)}") from None
        except openai.NotFoundError as error:
            raise RunError(
                f"{self.url} has no model {self.model!r}, or no chat at this address (most end in /v1): {said(error)}"
            ) from None
        except openai.APITimeoutError:
            return self._failed(
                "TimeLimit", f"no answer within {self.request_seconds:g} seconds; --request_seconds allows more"
            )
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ == "ConnectError":  # of httpx or httpx2, whichever the client has
                raise RunError(f"{self.url} no longer answers: {said(error)}") from None
            return self._failed("ServerError", f"the connection broke: {said(error)}")
        except openai.APIStatusError as error:
            if error.status_code < 500 and error.status_code != 429:
                return Failure("RequestRefused", f"the server refuses it ({error.status_code}): {said(error)}")
            return self._failed("ServerError", f"the server failed ({error.status_code}): {said(error)}")
        except (openai.APIError, ValueError) as error:  # an answer in no JSON
            return self._failed("ServerError", f"the server's answer cannot be read: {said(error)}")
        if not getattr(got, "choices", None) or not got.choices[0].message:
            return self._failed("ServerError", f"the server's answer holds no text: {str(got)[:80]!r}")
        self.failed_on_end = 0
        choice, tokens = got.choices[0], got.usage.completion_tokens if got.usage else 0
        return Answer(choice.message.content or "", cut=choice.finish_reason == "length", tokens=tokens)

    async def _send(self, request: Request) -> openai.types.chat.ChatCompletion:
        sampling, form = request.sampling, {}
        if sampling.schema:
            schema = {"name": "caption", "schema": sampling.schema, "strict": True}
            form["response_format"] = {"type": "json_schema", "json_schema": schema}
        return await self.client.chat.completions.create(
            model=self.model,
            messages=messages(request, _picture),
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            seed=request.seed() & 0x7FFFFFFF,
            extra_body=self.extra_body,
            **form,
        )

    def _failed(self, kind: str, message: str) -> Failure:
        """The failure of one request; raises `RunError` when there have been many with no answer between them."""
        self.failed_on_end += 1
        if self.failed_on_end >= FAILURES_ON_END:
            raise RunError(f"{self.url}: {self.failed_on_end} requests on end have failed; the last: {message}")
        return Failure(kind, message)


def _picture(url: str) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


def _look(client: openai.OpenAI) -> str:
    """The client's address.

    Raises: `UsageError` when no server that takes the key answers there.
    """
    url = str(client.base_url)
    try:
        client.models.list()
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise UsageError(f"{url} refuses the key in OPENAI_API_KEY: {said(error)}") from None
    except openai.APIConnectionError as error:
        raise UsageError(
            f"--base_url {url}: no server answers ({said(error)}); is it started, and is the port right?"
        ) from None
    except openai.APIError:
        pass  # it keeps no list of models: the first request will tell
    return url


def said(error: Exception) -> str:
    """The server's own words, or the cause of a broken connection, in a line."""
    body = getattr(error, "body", None)
    words = body.get("message") if isinstance(body, dict) else None
    return str(words or error.__cause__ or error).strip().split("\n")[0][:300]
