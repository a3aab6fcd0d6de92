"""Tests of wick's media from outside; started by run."""

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest
import zlib

MEGABYTE = 1 << 20


def png(width, height, *more):
    """A picture of noise, with more chunks before its pixels."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    rows = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunk(*one) for one in more)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, process):
    for _ in range(300):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError("a server did not start")


class Server:
    """A wick of its own."""

    def __init__(self, more=""):
        self.folder = tempfile.TemporaryDirectory()
        self.port = free_port()
        self.more = more
        self.start()
        user = {"username": "alice", "password": "a password", "auth": {"type": "m.login.dummy"}}
        answer = self.request("POST", "/_matrix/client/v3/register", json.dumps(user))
        self.token = json.loads(answer[2])["access_token"]

    def start(self):
        path = os.path.join(self.folder.name, "wick.toml")
        with open(path, "w") as file:
            file.write(
                f'server.name = "localhost"\nlisten.tcp = ["127.0.0.1:{self.port}"]\n'
                f'database.path = "{self.folder.name}/data"\nregistration.mode = "open"\n'
                f"limits.enabled = false\nmetrics.enabled = false\nmedia.max_upload_megabytes = 1024\n{self.more}\n"
            )
        with open(os.path.join(self.folder.name, "log"), "ab") as log:
            self.process = subprocess.Popen([os.environ["WICK"], "--config", path], stdout=log, stderr=log)
        wait_for(self.port, self.process)

    def check(self):
        command = [os.environ["WICK"], "--config", f"{self.folder.name}/wick.toml", "check", "--media"]
        return subprocess.run(command, capture_output=True, text=True)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(60)

    def close(self):
        self.stop()
        self.folder.cleanup()

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = dict(headers or {})
        if hasattr(self, "token"):
            headers["Authorization"] = f"Bearer {self.token}"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = response.status, dict(response.headers), response.read()
        connection.close()
        return answer

    def upload(self, body, content_type="application/octet-stream"):
        status, _, answer = self.request(
            "POST", "/_matrix/media/v3/upload", body, {"Content-Type": content_type}
        )
        assert status == 200, answer
        return json.loads(answer)["content_uri"].removeprefix("mxc://")

    def download(self, media, headers=None):
        return self.request("GET", f"/_matrix/client/v1/media/download/{media}", None, headers)

    def thumbnail(self, media, width, height, method):
        query = f"width={width}&height={height}&method={method}"
        return self.request("GET", f"/_matrix/client/v1/media/thumbnail/{media}?{query}")

    def status_field(self, name):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(rf"^{name}:\s+(\d+)", file.read(), re.M)[1])


class ObjectStore(unittest.TestCase):
    """Files in a bucket of moto's server."""

    def setUp(self):
        port = free_port()
        self.moto = subprocess.Popen(
            [os.environ["MOTO"], "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(self.moto.wait)
        self.addCleanup(self.moto.terminate)
        wait_for(port, self.moto)
        self.store = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.store.request("PUT", "/wick")
        created = self.store.getresponse()
        created.read()
        self.assertEqual(created.status, 200)
        self.server = Server(
            f'[media.s3]\nbucket = "wick"\nendpoint = "http://127.0.0.1:{port}"\n'
            'access_key_id = "id"\nsecret_access_key = "key"'
        )
        self.addCleanup(self.server.close)

    def objects(self):
        self.store.request("GET", "/wick?list-type=2")
        return re.findall(r"<Key>([^<]*)</Key>", self.store.getresponse().read().decode())

    def test_files_come_back_whole_and_in_part_and_are_stored_once(self):
        for size in [0, 1, 5 * MEGABYTE - 1, 5 * MEGABYTE, 12 * MEGABYTE + 7]:
            body = os.urandom(size)
            media = [self.server.upload(body) for _ in range(2)][1]
            status, headers, answer = self.server.download(media)
            self.assertEqual((status, len(answer)), (200, size))
            self.assertTrue(answer == body)
            if size > 100:
                status, headers, answer = self.server.download(media, {"Range": "bytes=50-99"})
                self.assertEqual((status, answer), (206, body[50:100]))
        self.assertEqual(len(self.objects()), 5)

    def test_thumbnails_and_files_survive_a_kill(self):
        media = self.server.upload(png(900, 600), "image/png")
        before = self.server.thumbnail(media, 320, 240, "scale")
        self.assertEqual((before[0], len(self.objects())), (200, 2))
        self.server.stop(signal.SIGKILL)
        checked = self.server.check()
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.server.start()
        self.assertEqual(self.server.thumbnail(media, 320, 240, "scale")[2], before[2])
        self.assertEqual(len(self.objects()), 2)


class LargeFiles(unittest.TestCase):
    """Memory grows neither with files nor with what they claim to be."""

    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.close)

    def test_memory_stays_flat_while_a_gigabyte_passes(self):
        piece, count = os.urandom(MEGABYTE), 1024
        self.server.upload(piece)
        before = self.server.status_field("VmHWM")
        begin = time.monotonic()
        pieces = (piece for _ in range(count))
        headers = {"Content-Length": str(count * MEGABYTE)}
        status, _, answer = self.server.request("POST", "/_matrix/media/v3/upload", pieces, headers)
        self.assertEqual(status, 200, answer)
        uploaded, up = time.monotonic() - begin, self.server.status_field("VmHWM")
        media = json.loads(answer)["content_uri"].removeprefix("mxc://")
        begin = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        headers = {"Authorization": f"Bearer {self.server.token}"}
        connection.request("GET", f"/_matrix/client/v1/media/download/{media}", None, headers)
        response = connection.getresponse()
        self.assertEqual((response.status, response.length), (200, count * MEGABYTE))
        while part := response.read(MEGABYTE):
            self.assertTrue(part == piece)
            count -= 1
        self.assertEqual(count, 0)
        connection.close()
        downloaded, down = time.monotonic() - begin, self.server.status_field("VmHWM")
        print(f"up in {uploaded:.1f} s, down in {downloaded:.1f} s, at most {up - before} and {down - before} kB above {before}")
        self.assertLess(down - before, 32 * 1024)

    def test_memory_stays_flat_whatever_a_small_picture_inflates_to(self):
        deflate = zlib.compressobj(9)
        bomb = b"".join(deflate.compress(bytes(MEGABYTE)) for _ in range(2048)) + deflate.flush()
        media = self.server.upload(png(900, 600), "image/png")
        self.assertEqual(self.server.thumbnail(media, 320, 240, "scale")[0], 200)
        before = self.server.status_field("VmHWM")
        for kind, head in [(b"iCCP", b"a\0\0"), (b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"IDAT", b"")]:
            media = self.server.upload(png(900, 600, (kind, head + bomb)), "image/png")
            self.assertIn(self.server.thumbnail(media, 320, 240, "scale")[0], (200, 400))
        grown = self.server.status_field("VmHWM") - before
        print(f"2 GiB in four chunks of a picture: at most {grown} kB above {before}")
        self.assertLess(grown, 128 * 1024)


if __name__ == "__main__":
    unittest.main()
