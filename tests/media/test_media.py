"""Tests of wick's media from outside; started by run."""

import hashlib
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


def png(width, height):
    """A picture of noise."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    rows = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
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
        log = open(os.path.join(self.folder.name, "log"), "ab")
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
    """Memory does not grow with files."""

    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.close)

    def test_memory_stays_flat_while_half_a_gigabyte_passes(self):
        size = 500 * MEGABYTE
        piece = os.urandom(MEGABYTE)
        digest = hashlib.sha256(piece * 500).hexdigest()
        self.server.upload(piece)
        before = self.server.status_field("VmHWM")

        class Pieces:
            def __init__(self):
                self.left = 500

            def read(self, _=None):
                self.left -= 1
                return piece if self.left >= 0 else b""

        begin = time.monotonic()
        headers = {"Content-Length": str(size)}
        path = "/_matrix/media/v3/upload"
        status, _, answer = self.server.request("POST", path, Pieces(), headers)
        self.assertEqual(status, 200, answer)
        uploaded = time.monotonic() - begin
        media = json.loads(answer)["content_uri"].removeprefix("mxc://")
        begin = time.monotonic()
        status, _, answer = self.server.download(media)
        downloaded = time.monotonic() - begin
        self.assertEqual((status, hashlib.sha256(answer).hexdigest()), (200, digest))
        grown = self.server.status_field("VmHWM") - before
        print(f"up in {uploaded:.1f} s, down in {downloaded:.1f} s, resident grown by {grown} kB")
        self.assertLess(grown, 32 * 1024)


if __name__ == "__main__":
    unittest.main()
