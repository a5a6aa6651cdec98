"""Clients of fulcrumd's request socket. They need nothing but Python 3.8 on Linux.

    with Client("/run/fulcrum/requests") as client:
        reply = client.infer([0.0] * client.sample_len)
        print(reply.status, reply.latency_us, reply.output)

With large samples, such as images, share memory with fulcrumd instead of sending them:

    with SharedClient("/run/fulcrum/requests") as client:
        client.sample(0)[:] = array("f", image)    # or numpy.frombuffer(client.sample(0), "f4")[:] = image
        reply = client.infer(0)
        print(reply.status, list(client.output(0)))
"""

import array
import mmap
import os
import socket
import struct
import sys
from typing import List, NamedTuple, Sequence

STATUS = ("answered", "rejected", "dropped", "failed")
VERSION = 2
IN_FRAMES, IN_SHARED_MEMORY = 0, 1


class Reply(NamedTuple):
    """How a request ended; `output` is zeros unless `status` is "answered"."""

    id: int
    status: str
    latency_us: int
    output: List[float]


class SharedReply(NamedTuple):
    """How a request ended; the output is in its slot if `status` is "answered"."""

    id: int
    status: str
    latency_us: int


class _Connection:
    _choice = IN_FRAMES

    def __init__(self, path: str, timeout_s: float = 10.0):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._next_id = 0
        try:
            self._socket.connect(path)
            hello = struct.unpack("<4s3I", self._read(16))
            magic, version, self.sample_len, self.output_len = hello
            if magic != b"FREQ" or version != VERSION:
                raise ConnectionError(f"{path}: not a fulcrumd request socket of version {VERSION}")
            self._socket.sendall(struct.pack("<I", self._choice))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self):
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


class Client(_Connection):
    """A connection. Requests may be sent ahead of their answers (`send`, `receive`)."""

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


class SharedClient(_Connection):
    """A connection whose samples and outputs lie in memory shared with fulcrumd, in `slots` slots.

    A slot belongs to one request from `send` to its answer.
    """

    _choice = IN_SHARED_MEMORY

    def __init__(self, path: str, timeout_s: float = 10.0):
        if sys.byteorder != "little":
            raise NotImplementedError("shared memory holds little-endian values")
        super().__init__(path, timeout_s)
        space = socket.CMSG_LEN(array.array("i").itemsize)
        told, control, _, _ = self._socket.recvmsg(12, space, socket.MSG_WAITALL)
        files = array.array("i", b"".join(data for _, kind, data in control if kind == socket.SCM_RIGHTS))
        if len(told) != 12 or len(files) != 1:
            self.close()
            raise ConnectionError("fulcrumd gave no shared memory")
        self.slots, self._slot_len, self._output_at = struct.unpack("<3I", told)
        try:
            self._memory = mmap.mmap(files[0], 4 * self.slots * self._slot_len)
        finally:
            os.close(files[0])
        self._values = memoryview(self._memory).cast("f")

    def close(self) -> None:
        """Closes the connection; the memory goes with the last view of it."""
        super().close()
        self._values = None

    def _part(self, slot: int, at: int, length: int) -> memoryview:
        if not 0 <= slot < self.slots:
            raise IndexError(f"slot {slot} of {self.slots}")
        first = slot * self._slot_len + at
        return self._values[first : first + length]

    def sample(self, slot: int) -> memoryview:
        """The sample in a slot: `sample_len` floats, to be written in place."""
        return self._part(slot, 0, self.sample_len)

    def output(self, slot: int) -> memoryview:
        """The output in a slot: `output_len` floats, of a request that was answered."""
        return self._part(slot, self._output_at, self.output_len)

    def send(self, request_id: int, slot: int) -> None:
        """Sends the sample in a slot."""
        self._socket.sendall(struct.pack("<Q2I", request_id, slot, 0))

    def receive(self) -> SharedReply:
        """Waits for the next answer, whichever request it belongs to."""
        request_id, status, latency_us = struct.unpack("<Q2I", self._read(16))
        return SharedReply(request_id, STATUS[status], latency_us)

    def infer(self, slot: int) -> SharedReply:
        """Sends the sample in a slot and waits for its answer."""
        self._next_id += 1
        self.send(self._next_id, slot)
        return self.receive()
