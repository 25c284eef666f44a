"""A proxy that makes a fast server slow, moody or dishonest. Runs as a process of its own: `python3 -m ferrybench.shaper OPTIONS`.

OPTIONS is one JSON object:
  upstream  [host, port]
  log       a file; one line per answer: method, status, body bytes sent, target
  total     bytes per second of all bodies together
  each      bytes per second of one body
  collapse  bodies at once beyond which the total falls: with n bodies it is total * above / n
  flip      {"at": offset, "times": n}: inverts this byte of the object, the first n times it passes
  stall     {"at": offset, "times": n}: falls silent at this byte of the object, the first n times (-1: always)
Bodies under 64 KiB pass as they are. The first line on stdout is the port.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys

CHUNK = 32 * 1024
SHAPED_FROM = 64 * 1024
#: Seconds of unused rate that a body may catch up on.
CREDIT = 0.05


class Shaper:
    def __init__(self, options: dict):
        self.options = options
        self.active = 0
        self.left = {fault: (options.get(fault) or {}).get("times", 0) for fault in ("flip", "stall")}
        self.log = open(options["log"], "a", buffering=1)

    def rate(self) -> float:
        """What one body may have right now."""
        total, each, above = (self.options.get(name) for name in ("total", "each", "collapse"))
        count = max(self.active, 1)
        if total and above and count > above:
            total = total * above / count
        return min(total / count if total else 1e12, each or 1e12)

    def strikes(self, fault: str, start: int, length: int) -> int | None:
        """Where in the next `length` bytes of the object a fault strikes, if it does."""
        where = self.options.get(fault)
        if not where or self.left[fault] == 0 or not start <= where["at"] < start + length:
            return None
        self.left[fault] -= 1
        return where["at"] - start

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self.exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection can take another one."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, target = head.split(b" ", 2)[:2]
        up_reader, up_writer = await asyncio.open_connection(*self.options["upstream"], limit=256 * 1024)
        try:
            up_writer.write(re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)[:-2] + b"Connection: close\r\n\r\n")
            await copy(reader, up_writer, header(head, b"content-length") or 0)
            answer = await up_reader.readuntil(b"\r\n\r\n")
            status = int(answer.split(b" ", 2)[1])
            length = 0 if method == b"HEAD" or status in (204, 304) else header(answer, b"content-length")
            writer.write(answer if length is None else re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", answer))
            sent = [0]
            try:
                await self.body(up_reader, reader, writer, answer, length, sent)
            finally:
                self.log.write(f"{method.decode()} {status} {sent[0]} {target.decode()}\n")
            return length is not None
        finally:
            up_writer.close()

    async def body(self, source, client, writer, answer: bytes, length: int | None, sent: list[int]) -> None:
        if length is None or length < SHAPED_FROM:
            while piece := await source.read(CHUNK):
                await send(writer, piece, sent)
            await writer.drain()
            return
        place = re.search(rb"(?i)\r\ncontent-range: bytes (\d+)-", answer)
        at = int(place.group(1)) if place else 0
        self.active += 1
        try:
            await self.shaped(source, client, writer, at, length, sent)
        finally:
            self.active -= 1

    async def shaped(self, source, client, writer, at: int, left: int, sent: list[int]) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while left:
            piece = await source.readexactly(min(CHUNK, left))
            stalled = self.strikes("stall", at, len(piece))
            if stalled is not None:
                await send(writer, piece[:stalled], sent)
                # Silent, but there: until the client goes away.
                await client.read(1)
                raise ConnectionResetError
            flipped = self.strikes("flip", at, len(piece))
            if flipped is not None:
                piece = piece[:flipped] + bytes([piece[flipped] ^ 0xFF]) + piece[flipped + 1 :]
            await send(writer, piece, sent)
            at, left = at + len(piece), left - len(piece)
            due = max(due, loop.time() - CREDIT) + len(piece) / self.rate()
            if due > loop.time() + 0.001:
                await asyncio.sleep(due - loop.time())


async def send(writer: asyncio.StreamWriter, piece: bytes, sent: list[int]) -> None:
    writer.write(piece)
    await writer.drain()
    sent[0] += len(piece)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int) -> None:
    while left:
        piece = await reader.read(min(CHUNK, left))
        if not piece:
            raise ConnectionResetError
        writer.write(piece)
        await writer.drain()
        left -= len(piece)


def header(head: bytes, name: bytes) -> int | None:
    found = re.search(rb"(?i)\r\n" + name + rb": *(\d+)", head)
    return int(found.group(1)) if found else None


async def main() -> None:
    shaper = Shaper(json.loads(sys.argv[1]))
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    # What lies in buffers when a client dies was sent for nothing; little of it keeps the count of bytes honest.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    server = await asyncio.start_server(shaper.serve, sock=listener, limit=256 * 1024)
    print(listener.getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
