"""Fetching what an issuer publishes, within a time and a size, whatever its server does.

The time limit of a socket is one for each piece that comes: a server that sends a byte now and then
is never late by it. So a thread of its own fetches, and nobody waits for it beyond the time.
"""

import queue
import threading
import urllib.request
from time import monotonic

#: Bytes of an answer, at most: key sets have some thousands.
MAX_BYTES = 1024 * 1024
_CHUNK = 64 * 1024


class Download:
    """Fetches one URL, once at a time.

    Args:
        url: http or https.
        timeout: seconds for the whole answer.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._thread: threading.Thread | None = None

    def fetch(self) -> bytes:
        """Fetch the body of the answer. Blocks.

        Raises:
            OSError: when there is no answer in time, or its status is not 200.
            ValueError: when the answer is too large.
            http.client.HTTPException: when the answer is not HTTP.
        """
        if self._thread is not None and self._thread.is_alive():
            raise TimeoutError("the server still sends its last answer")
        outcome: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, args=(outcome,), name="queue-run-download", daemon=True
        )
        self._thread.start()
        try:
            found = outcome.get(timeout=self._timeout)
        except queue.Empty:
            raise TimeoutError(f"no whole answer within {self._timeout:g} seconds") from None
        if isinstance(found, Exception):
            raise found
        return found

    def _run(self, result: "queue.SimpleQueue[bytes | Exception]") -> None:
        try:
            result.put(self._read())
        except Exception as error:
            result.put(error)

    def _read(self) -> bytes:
        until = monotonic() + self._timeout
        body = bytearray()
        with urllib.request.urlopen(self._url, timeout=self._timeout) as response:
            while chunk := response.read1(_CHUNK):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"the answer has more than {MAX_BYTES:,} bytes")
                if monotonic() > until:
                    raise TimeoutError("the answer comes too slowly")
        return bytes(body)
