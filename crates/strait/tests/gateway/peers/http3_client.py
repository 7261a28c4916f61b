"""A client of HTTP/3 by aioquic. It takes commands as lines of JSON and answers each with one.

connect   name, host, port, server_name, [certificate, key], [from]   a connection: {"ok": …, "retried": …} or {"error": …}
initials  host, port, server_name, count   first packets of connections that go no further, each from a port of its own: {}
ask       name, requests: [{headers, [body], [size], [trailers], [end]}]   all at once: a list of answers, in their order
begin     name, requests   sends them, and does not wait: {}
finish    name   waits for the answers to those: a list
goaway    name   how often the server said that it goes away: a number
flood     name, request, how, most   gives up one request after the other, as the server lets it begin them, until the connection ends:
          {"begun": …, "end": …}; how: "both" directions at once, "reset" its own alone, "stop" the server's alone, or "answered": when the
          answer's head is here, or "never"
control   name, hex   more on the client's control stream: {}
drip      name, request   a byte of its body after the other, until there is an answer: it
closed    name   waits until the connection ends: {"code": …, "reason": …}
tunnel    name, headers   a request whose body goes both ways; waits for the head of its answer: {"status": …} or the answer
send      name, hex, [end]   more of it: {}
receive   name   waits for more of the answer: {"hex": …, "done": …}
raw       name, kind, hex, [end]   bytes on a stream of its own ("uni" or "bidi"); then waits until the connection or stream ends
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StreamReset, StopSendingReceived

PATIENCE = 20
REQUEST_CANCELLED = 0x10C


class Http(H3Connection):
    """Counts what the library passes over."""

    goaways = 0

    def _check_control_frame_type(self, frame_type):
        self.goaways += frame_type == FrameType.GOAWAY
        super()._check_control_frame_type(frame_type)


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.http = Http(self._quic)
        self.answers = {}
        self.end = None
        self.begun = []
        self.tunnel = None
        self.changed = asyncio.Condition()

    async def until(self, is_so):
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(is_so), PATIENCE)

    async def tell(self):
        async with self.changed:
            self.changed.notify_all()

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        # What tells nobody else: how many streams may be opened.
        asyncio.ensure_future(self.tell())

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.end = {"code": event.error_code, "reason": event.reason_phrase}
            for answer in self.answers.values():
                answer.setdefault("error", f"connection {event.error_code:#x}")
                answer["done"] = True
        elif isinstance(event, (StreamReset, StopSendingReceived)):
            answer = self.answers.get(event.stream_id)
            # To be asked to stop is no error of the answer.
            if answer is not None and (isinstance(event, StreamReset) or "hears" in answer):
                answer.setdefault("error", f"stream {event.error_code:#x}")
                answer["done"] = True
        for of in self.http.handle_event(event):
            answer = self.answers.get(of.stream_id)
            if answer is None:
                continue
            if isinstance(of, HeadersReceived):
                fields = [[name.decode(), value.decode("latin-1")] for name, value in of.headers]
                status = next((int(value) for name, value in fields if name == ":status"), None)
                if status is None:
                    answer["trailers"] = fields
                elif status < 200:
                    answer["interim"].append(status)
                else:
                    answer["status"] = status
                    answer["headers"] = [field for field in fields if field[0] != ":status"]
            elif isinstance(of, DataReceived) and "tunnel" in answer:
                answer["tunnel"] += of.data
            elif isinstance(of, DataReceived):
                answer["bytes"] += len(of.data)
                answer["hash"].update(of.data)
                if answer["bytes"] <= 1 << 16:
                    answer["body"] += of.data.decode("latin-1")
            answer["done"] |= of.stream_ended
        asyncio.ensure_future(self.tell())

    def begin(self, request):
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = {
            "interim": [], "bytes": 0, "hash": hashlib.sha256(), "body": "", "done": False,
        }
        body = request.get("body", "").encode()
        if "size" in request:
            body = noise(request["size"])
        self.answers[stream]["sent"] = hashlib.sha256(body).digest()
        trailers = request.get("trailers")
        end = request.get("end", True)
        headers = [(name.encode(), value.encode()) for name, value in request["headers"]]
        last = not body and trailers is None and end
        self.http.send_headers(stream, headers, end_stream=last)
        if body:
            self.http.send_data(stream, body, end_stream=trailers is None and end)
        if trailers is not None:
            self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in trailers], end_stream=True)
        return stream

    async def ask(self, requests):
        self.begun = [self.begin(request) for request in requests]
        self.transmit()
        return await self.finish()

    async def finish(self):
        streams, self.begun = self.begun, []
        await self.until(lambda: all(self.answers[stream]["done"] for stream in streams))
        return [self.taken(stream) for stream in streams]

    def taken(self, stream):
        answer = self.answers.pop(stream)
        # Whether what was sent came back.
        answer["same"] = answer.pop("hash").digest() == answer.pop("sent", None)
        return answer

    async def flood(self, request, how, most):
        for begun in range(most):
            may = lambda: self._quic.get_next_available_stream_id() // 4 < self._quic._remote_max_streams_bidi
            await self.until(lambda: self.end or may())
            if self.end:
                return {"begun": begun, "end": self.end}
            stream = self.begin({**request, "end": how in ("stop", "answered", "never")})
            self.transmit()
            if how == "answered":
                await self.until(lambda: self.end or "status" in self.answers[stream])
            if how not in ("stop", "never"):
                self._quic.reset_stream(stream, REQUEST_CANCELLED)
            if how not in ("reset", "never"):
                self._quic.stop_stream(stream, REQUEST_CANCELLED)
            self.transmit()
        return {"begun": most, "end": self.end}

    async def drip(self, request):
        stream = self.begin({**request, "end": False})
        async with asyncio.timeout(PATIENCE):
            while not self.answers[stream]["done"]:
                try:
                    self.http.send_data(stream, b"x", end_stream=False)
                except RuntimeError:
                    # The server asked to stop.
                    await self.until(lambda: self.answers[stream]["done"])
                self.transmit()
                await asyncio.sleep(0.01)
        return self.taken(stream)

    async def open_tunnel(self, headers):
        self.tunnel = self.begin({"headers": headers, "end": False})
        answer = self.answers[self.tunnel]
        answer["tunnel"] = bytearray()
        self.transmit()
        await self.until(lambda: answer["done"] or "status" in answer)
        return {key: answer.get(key) for key in ("status", "headers", "error")}

    def send(self, data, end):
        self.http.send_data(self.tunnel, data, end_stream=end)
        self.transmit()
        return {}

    async def receive(self):
        answer = self.answers[self.tunnel]
        await self.until(lambda: answer["done"] or answer["tunnel"])
        taken, answer["tunnel"] = answer["tunnel"], bytearray()
        return {"hex": taken.hex(), "done": answer["done"], "error": answer.get("error")}

    async def raw(self, kind, data, end):
        stream = self._quic.get_next_available_stream_id(is_unidirectional=kind == "uni")
        self.answers[stream] = {
            "interim": [], "bytes": 0, "hash": hashlib.sha256(), "body": "", "done": False, "hears": True,
        }
        self._quic.send_stream_data(stream, data, end_stream=end)
        self.transmit()
        await self.until(lambda: self.end is not None or self.answers[stream]["done"])
        return {"end": self.end, "answer": self.taken(stream)}


def noise(size):
    """Bytes that no two places of are alike."""
    out = bytearray()
    word = 1
    while len(out) < size:
        word = word * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        out += word.to_bytes(8, "big")
    return bytes(out[:size])


def configured(of):
    return QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, server_name=of["server_name"], verify_mode=ssl.CERT_NONE, idle_timeout=600
    )


def initials(of):
    for _ in range(of["count"]):
        quic = QuicConnection(configuration=configured(of))
        quic.connect((of["host"], of["port"]), now=0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            for data, _ in quic.datagrams_to_send(now=0):
                own.sendto(data, (of["host"], of["port"]))
    return {}


@contextlib.asynccontextmanager
async def connect_from(own, host, port, configuration):
    """As aioquic's, which knows no address to connect from."""
    loop = asyncio.get_running_loop()
    quic = QuicConnection(configuration=configuration)
    transport, protocol = await loop.create_datagram_endpoint(lambda: Client(quic), local_addr=(own, 0))
    try:
        protocol.connect((host, port))
        await protocol.wait_connected()
        yield protocol
    finally:
        protocol.close()
        await protocol.wait_closed()
        transport.close()


async def opened(clients, managers, of):
    configuration = configured(of)
    if "certificate" in of:
        configuration.load_cert_chain(of["certificate"], of["key"])
    if "from" in of:
        manager = connect_from(of["from"], of["host"], of["port"], configuration)
    else:
        manager = connect(of["host"], of["port"], configuration=configuration, create_protocol=Client)
    try:
        client = await asyncio.wait_for(manager.__aenter__(), PATIENCE)
        await client.ping()
    except (ConnectionError, asyncio.TimeoutError) as error:
        return {"error": repr(error)}
    clients[of["name"]] = client
    managers.append(manager)
    certificate = client._quic.tls._peer_certificate
    retried = client._quic._retry_count > 0
    return {"ok": True, "serial": str(certificate.serial_number), "retried": retried}


async def main():
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    clients, managers = {}, []
    while line := await reader.readline():
        command = json.loads(line)
        client = clients.get(command.get("name"))
        match command["do"]:
            case "connect":
                said = await opened(clients, managers, command)
            case "ask":
                said = await client.ask(command["requests"])
            case "begin":
                client.begun = [client.begin(request) for request in command["requests"]]
                client.transmit()
                said = {}
            case "finish":
                said = await client.finish()
            case "goaway":
                said = client.http.goaways
            case "flood":
                said = await client.flood(command["request"], command["how"], command["most"])
            case "tunnel":
                said = await client.open_tunnel(command["headers"])
            case "send":
                said = client.send(bytes.fromhex(command["hex"]), command.get("end", False))
            case "receive":
                said = await client.receive()
            case "control":
                client._quic.send_stream_data(client.http._local_control_stream_id, bytes.fromhex(command["hex"]))
                client.transmit()
                said = {}
            case "initials":
                said = initials(command)
            case "drip":
                said = await client.drip(command["request"])
            case "closed":
                await client.until(lambda: client.end)
                said = client.end
            case "raw":
                said = await client.raw(command["kind"], bytes.fromhex(command["hex"]), command.get("end", False))
        print(json.dumps(said), flush=True)


asyncio.run(main())
