"""The ping-pong server as somebody else would write it: over TCP, a Unix socket or standard streams."""
import os
import socket
import sys


def serve(read, write):
    for line in read:
        line = line.rstrip(b"\r\n")
        write.write({b"ping": b"pong", b"pong": b"ping"}.get(line, line) + b"\r\n")
        write.flush()


def listen(family, address):
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()
    name = listener.getsockname()
    print(name[1] if family == socket.AF_INET else name, flush=True)
    while True:
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as read, peer.makefile("wb") as write:
            serve(read, write)


match sys.argv[1:]:
    case ["stdio"]:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    case ["tcp"]:
        listen(socket.AF_INET, ("127.0.0.1", 0))
    case ["unix", path]:
        listen(socket.AF_UNIX, path)
    case _:
        sys.exit("line_server.py stdio | tcp | unix PATH")
