"""Where jobs dial in: who has the key is let in, and heard."""

from __future__ import annotations

import os
import socket
import struct
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

from bench.events import Event
from bench.executors._node import RemoteTask


def let_in(door: socket.socket, key: bytes) -> list[Connection]:
    """Who dials in, if it has the key; a stranger may keep a run waiting for seconds, and no longer."""
    dialled, _ = door.accept()
    dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    # A node that loses its power says no goodbye: it is asked now and then, and given up after two minutes.
    dialled.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            dialled.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection = Connection(dialled.detach())
    try:
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
    except (AuthenticationError, EOFError, OSError):
        connection.close()
        return []
    with socket.socket(fileno=os.dup(connection.fileno())) as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
    return [connection]


def news(connection: Connection, carried: RemoteTask) -> Event:
    """What a job says next of its task."""
    try:
        return carried.told(connection.recv())
    except (EOFError, OSError):
        job = carried.environment.get("job", "one that said nothing yet")
        return carried.lose(f"its job was cancelled, preempted or lost: {job}")
