"""A client of fulcrumd's request socket. Needs nothing but Python 3.8.

    with Client("/run/fulcrum/requests") as client:
        reply = client.infer([0.0] * client.sample_len)
        print(reply.status, reply.latency_us, reply.output)
"""

import socket
import struct
from typing import List, NamedTuple, Sequence

STATUS = ("answered", "rejected", "dropped", "failed")


class Reply(NamedTuple):
    """How a request ended; `output` is zeros unless `status` is "answered"."""

    id: int
    status: str
    latency_us: int
    output: List[float]


class Client:
    """A connection. Requests may be sent ahead of their answers (`send`, `receive`)."""

    def __init__(self, path: str, timeout_s: float = 10.0):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._socket.connect(path)
        magic, version, self.sample_len, self.output_len = struct.unpack("<4s3I", self._read(16))
        if magic != b"FREQ" or version != 1:
            raise ConnectionError(f"{path}: not a fulcrumd request socket of version 1")
        self._next_id = 0

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            if not part:
                raise ConnectionError("fulcrumd closed the connection")
            data += part
        return bytes(data)

    def send(self, request_id: int, sample: Sequence[float]) -> None:
        """Sends one sample of `sample_len` values."""
        if len(sample) != self.sample_len:
            raise ValueError(f"a sample has {self.sample_len} values, not {len(sample)}")
        self._socket.sendall(struct.pack(f"<Q{self.sample_len}f", request_id, *sample))

    def receive(self) -> Reply:
        """Waits for the next answer, whichever request it belongs to."""
        head = self._read(16 + 4 * self.output_len)
        request_id, status, latency_us = struct.unpack_from("<Q2I", head)
        output = list(struct.unpack_from(f"<{self.output_len}f", head, 16))
        return Reply(request_id, STATUS[status], latency_us, output)

    def infer(self, sample: Sequence[float]) -> Reply:
        """Sends one sample and waits for its answer."""
        self._next_id += 1
        self.send(self._next_id, sample)
        return self.receive()
