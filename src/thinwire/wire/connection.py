"""One direction of what two hosts say to each other: a TCP connection, and the packets on it.

A packet goes out and comes in on the thread that has it or wants it, as far as the connection takes it at once: to wake
another thread costs a host of one core a change of context, and its caches. What does not fit goes on by a thread, and
so does what comes in where packets are larger than the connection holds while nobody fetches them.
"""

import collections
import contextlib
import socket
import struct
import threading

LAG = 64  # packets that a host may be ahead of another one
MOST_BYTES = 1 << 30  # of a packet
AT_ONCE = 1 << 15  # bytes of a packet of which a few fit into what a connection holds anywhere
_HEAD = struct.Struct("<IIQ")  # which pass and which exchange of it a packet belongs to, and its bytes
_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", None)

Bytes = bytes | memoryview


class Outgoing:
    """Packets to one host, in the order in which they are handed over.

    Attributes:
        lost: why nothing can be sent any more.
    """

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._changed = threading.Condition()
        self._left: collections.deque[bytes] = collections.deque()  # the thread is at the first one
        self._thread: threading.Thread | None = None
        self._last = False
        self.lost: Exception | None = None

    def put(self, exchange: int, identity: int, packet: Bytes) -> None:
        """Sends a packet, or has it sent; waits while LAG others are left.

        Raises:
            Exception: ``lost``.
        """
        parts = [memoryview(_HEAD.pack(identity, exchange, len(packet))), memoryview(packet)]
        with self._changed:
            self._changed.wait_for(lambda: self.lost or len(self._left) < LAG)
            if self.lost is None and not self._left:
                parts = self._at_once(parts)
            if self.lost is not None:
                raise self.lost
            if parts:
                self._left.append(b"".join(parts))
                self._changed.notify_all()
                if self._thread is None:
                    self._thread = threading.Thread(target=self._write, daemon=True)
                    self._thread.start()

    def finish(self, timeout_s: float | int) -> None:
        """Nothing more is to be sent; waits so long for what is left."""
        with self._changed:
            self._last = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def fail(self, failure: Exception) -> None:
        """From now on nothing is sent any more, not even what is left."""
        with self._changed:
            self.lost = self.lost or failure
            self._left.clear()
            self._changed.notify_all()

    def _at_once(self, parts: list[memoryview]) -> list[memoryview]:
        """Sends what the connection takes without waiting; returns the rest."""
        if _DONT_WAIT is None:
            return parts
        try:
            sent = self._connection.sendmsg(parts, [], _DONT_WAIT)
        except BlockingIOError:
            return parts
        except OSError as error:
            self.lost = error
            return []
        rest = []
        for part in parts:
            rest += [part[sent:]] if sent < len(part) else []
            sent = max(0, sent - len(part))
        return rest

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._left or self._last or self.lost)
                if self.lost or not self._left:
                    return
                raw = self._left[0]
            try:
                self._connection.sendall(raw)
            except OSError as error:
                self.fail(error)
                return
            with self._changed:
                if self._left:  # they are gone where it has failed meanwhile
                    self._left.popleft()
                self._changed.notify_all()


class Incoming:
    """Packets of one host, in order for each exchange; whoever asks for one waits for it."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._changed = threading.Condition()
        self._came: dict[int, collections.deque[tuple[int, Bytes]]] = collections.defaultdict(collections.deque)
        self._failure: Exception | None = None
        self._read_by_somebody = False
        self._thread: threading.Thread | None = None

    def get(self, exchange: int, size: int) -> tuple[int, Bytes]:
        """The pass and the bytes of the next packet of an exchange.

        Args:
            size: that it will have, if all is well. From the first large one on a thread reads ahead.

        Raises:
            Exception: what has ended the connection.
        """
        if size > AT_ONCE:
            self._read_ahead()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._came[exchange] or self._failure or not self._read_by_somebody)
                if self._came[exchange]:
                    self._changed.notify_all()
                    return self._came[exchange].popleft()
                if self._failure:
                    raise self._failure
                self._read_by_somebody = True
            self._read_one()
            with self._changed:
                self._read_by_somebody = False
                self._changed.notify_all()

    def fail(self, failure: Exception, forget: bool = False) -> None:
        """From now on nothing comes any more; what has come can still be fetched, unless it is to be forgotten."""
        with self._changed:
            self._failure = self._failure or failure
            if forget:
                self._came.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the connection so that whoever is sending hears of it."""
        # Linux announces no room after a shutdown: whoever has filled this up would wait for ever without a reset.
        with contextlib.suppress(OSError):  # it is closed already
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    def _read_ahead(self) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._read_on, daemon=True)
                self._thread.start()

    def _read_on(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._read_by_somebody)
            self._read_by_somebody = True
        while self._read_one():
            pass

    def _read_one(self) -> bool:
        """Reads a packet, and keeps it; waits while LAG others have not been fetched. Whether there may be another."""
        try:
            identity, exchange, size = _HEAD.unpack(self._exactly(_HEAD.size))
            if size > MOST_BYTES:
                raise ConnectionError(f"it announces a packet of {size} bytes, and {MOST_BYTES} is the most")
            packet = self._exactly(size)
        except Exception as error:  # whoever waits for a packet must hear of it, whatever it is
            self.fail(error)
            return False
        with self._changed:
            self._changed.wait_for(lambda: self._failure or sum(map(len, self._came.values())) < LAG)
            if self._failure is None:
                self._came[exchange].append((identity, packet))
            self._changed.notify_all()
            return self._failure is None

    def _exactly(self, size: int) -> memoryview:
        whole = left = memoryview(bytearray(size))
        while left:
            count = self._connection.recv_into(left)
            if not count:
                raise ConnectionError("it has closed the connection")
            left = left[count:]
        return whole
