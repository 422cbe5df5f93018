"""The HTTP client of a server that may answer anything: each answer is bounded in time and, as it is read, in size.

The usual time limit is for each wait for the next bytes, and so none for a server that sends a byte now and then; and the usual client
reads and unpacks whatever comes, of which gzip makes a thousand times as much.
"""

import asyncio
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openai

MAX_BODY = (
    2 << 20
)  # bytes, unpacked: an answer of 32,000 tokens with its reasoning has 150 kB, with log-probabilities 1 MB
PACKED = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}  # what zlib unpacks
OF_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")  # headers of the body as it was sent
REDIRECTS = 5


class TooLarge(Exception):
    """The server's answer is over `MAX_BODY`, or packed in a way that cannot be bounded."""


def bounded_client(seconds: float) -> "openai.DefaultAsyncHttpxClient":
    """A client for `openai.AsyncOpenAI` that gives up on an answer after `seconds`, and on one of more than `MAX_BODY` bytes."""
    import openai

    class Client(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            try:
                return await asyncio.wait_for(self._whole(request, options), seconds + 1)
            except asyncio.TimeoutError:
                raise openai.APITimeoutError(request=request) from None
            except TooLarge as error:  # as an error of openai's, it is not retried
                raise openai.APIError(str(error), request, body=None) from None

        async def _whole(self, request: Any, options: dict) -> Any:
            request.headers["Accept-Encoding"] = "identity"
            came = await super().send(request, stream=True, **options | {"follow_redirects": False})
            for _ in range(REDIRECTS):  # followed here: httpx would read and unpack their bodies
                if came.next_request is None:
                    break
                await came.aclose()
                came = await super().send(came.next_request, stream=True, follow_redirects=False)
            try:
                body = await _body(came)
            finally:
                await came.aclose()
            headers = [one for one in came.headers.multi_items() if one[0].lower() not in OF_TRANSFER]
            return type(came)(came.status_code, headers=headers, content=body, request=request)

    return Client(timeout=seconds)


async def _body(came: Any) -> bytes:
    """The body of a streamed response, unpacked.

    Raises: `TooLarge`.
    """
    packed = came.headers.get("content-encoding", "identity").lower().strip()
    if packed not in ("", "identity", *PACKED):
        raise TooLarge(f"it is compressed with {packed[:40]!r}, which was not requested")
    unpack = zlib.decompressobj(PACKED[packed]) if packed in PACKED else None
    parts, size = [], 0
    async for piece in came.aiter_raw():
        if unpack:
            try:
                piece = unpack.decompress(piece, MAX_BODY - size + 1)
            except zlib.error as error:
                raise TooLarge(f"it is not valid {packed}: {error}") from None
        parts.append(piece)
        size += len(piece)
        if size > MAX_BODY:
            raise TooLarge(f"it is larger than {MAX_BODY:,} bytes")
    return b"".join(parts)
