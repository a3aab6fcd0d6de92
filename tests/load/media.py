"""Media beside nginx and ImageMagick: uploads, memory, downloads, thumbnails. tests/load/media runs it.

usage: media.py WICK_BINARY FOLDER
"""

import json
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time

MEGABYTE = 1 << 20
SMALL, LARGE, LARGE_MEGABYTES = 100, 4, int(os.environ.get("LARGE_MEGABYTES", "500"))
DOWNLOADS = int(os.environ.get("DOWNLOADS", "11"))
PHOTOS = int(os.environ.get("PHOTOS", "40"))
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Peer:
    """A process that serves HTTP on a port, and what it uses."""

    def __init__(self, port, command, log):
        self.port = port
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(600):
            try:
                return socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise SystemExit(f"{command[0]} does not start")

    def pids(self):
        """The process and those below it."""
        found = [self.process.pid]
        for pid in found:
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found.extend(int(child) for child in children)
        return found

    def cpu(self):
        """Seconds of processor time."""
        ticks = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def memory(self, key):
        """MiB of the process: VmRSS now, VmHWM at most."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(key)).split()[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Connection:
    """A connection that is kept alive. Bodies are read into one buffer, so that this end costs little."""

    def __init__(self, port, token=None):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.token = token
        self.buffer = bytearray(MEGABYTE)

    def send(self, method, path, length=0, content_type="application/octet-stream"):
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n"
        if self.token:
            head += f"Authorization: Bearer {self.token}\r\n"
        self.socket.sendall(f"{head}\r\n".encode())

    def receive(self, keep=True):
        """The body, or only how long it is."""
        head = bytearray()
        while b"\r\n\r\n" not in head:
            part = self.socket.recv(65536)
            if not part:
                raise SystemExit("the connection broke")
            head += part
        head, _, body = bytes(head).partition(b"\r\n\r\n")
        if b" 200 " not in head.splitlines()[0]:
            raise SystemExit(f"{head!r} {body[:500]!r}")
        fields = (line.partition(b":") for line in head.splitlines()[1:])
        length = next(int(value) for name, _, value in fields if name.strip().lower() == b"content-length")
        received = len(body)
        kept = bytearray(body) if keep else None
        while received < length:
            count = self.socket.recv_into(self.buffer, min(len(self.buffer), length - received))
            if count == 0:
                raise SystemExit("the connection broke")
            if keep:
                kept += memoryview(self.buffer)[:count]
            received += count
        return bytes(kept) if keep else received

    def upload(self, path):
        self.send("POST", "/_matrix/media/v3/upload", path.stat().st_size)
        with path.open("rb") as file:
            self.socket.sendfile(file)
        return json.loads(self.receive())["content_uri"].removeprefix("mxc://")

    def get(self, path, keep=False):
        self.send("GET", path)
        return self.receive(keep)


def register(port):
    body = json.dumps({"username": "media", "password": "load test only", "auth": {"type": "m.login.dummy"}}).encode()
    connection = Connection(port)
    connection.send("POST", "/_matrix/client/v3/register", len(body), "application/json")
    connection.socket.sendall(body)
    return json.loads(connection.receive())["access_token"]


def start_wick(binary, folder):
    port = free_port()
    (folder / "wick.toml").write_text(f"""
server.name = "localhost"
listen.tcp = ["127.0.0.1:{port}"]
database.path = "{folder}/database"
registration.mode = "open"
limits.enabled = false
metrics.enabled = false
admin.enabled = false
logging.filter = "warn"
media = {{ max_upload_megabytes = 10000, max_user_megabytes = 100000 }}
""")
    return Peer(port, [binary, "--config", str(folder / "wick.toml")], (folder / "wick.log").open("w"))


def start_nginx(folder, root):
    port = free_port()
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log; {"user root;" if os.getuid() == 0 else ""}
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on; tcp_nopush on;
    client_body_temp_path {folder}/n1; proxy_temp_path {folder}/n2; fastcgi_temp_path {folder}/n3;
    uwsgi_temp_path {folder}/n4; scgi_temp_path {folder}/n5;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
""")
    command = ["nginx", "-p", str(folder), "-e", f"{folder}/nginx.log", "-c", str(folder / "nginx.conf")]
    return Peer(port, command, (folder / "nginx.out").open("w"))


def row(what, count, seconds, megabytes, cpu, *more):
    print(f"{what:<44} {count:>5} {seconds:>8.2f} s {megabytes / seconds:>8.1f} MB/s {cpu:>7.2f} cpu s", *more, flush=True)


def uploads(wick, folder):
    """Small files on one connection, then large ones, one after another and at once; returns the media id of a large one."""
    connection = Connection(wick.port, register(wick.port))
    for name, count, megabytes in [("1 MB files", SMALL, 1), (f"{LARGE_MEGABYTES} MB files", LARGE, LARGE_MEGABYTES)]:
        path = folder / "upload"
        begun, cpu, spent, media = time.monotonic(), wick.cpu(), 0.0, None
        for number in range(count):
            made = time.monotonic()
            with path.open("wb") as file:
                part = number.to_bytes(2, "big") + os.urandom(MEGABYTE - 2)
                for _ in range(megabytes):
                    file.write(part)
            spent += time.monotonic() - made
            media = connection.upload(path)
        seconds = time.monotonic() - begun - spent
        memory = f"rss {wick.memory('VmRSS'):.0f} MiB, at most {wick.memory('VmHWM'):.0f} MiB"
        row(f"upload {name}", count, seconds, count * megabytes, wick.cpu() - cpu, memory)
    return connection, media, path


def downloads(wick, connection, media, path, folder):
    """The same large file from wick and from nginx in turn."""
    nginx = start_nginx(folder, path.parent)
    other = Connection(nginx.port)
    connection = Connection(wick.port, connection.token)
    names = {
        "wick": (wick, connection, f"/_matrix/client/v1/media/download/{media}"),
        "nginx": (nginx, other, f"/{path.name}"),
    }
    rounds, cpu = {name: [] for name in names}, {name: 0.0 for name in names}
    for turn in range(DOWNLOADS + 1):
        # Who comes first changes, and the first round fills the cache of the system.
        for name, (peer, via, where) in list(names.items())[:: 1 if turn % 2 else -1]:
            begun, before = time.monotonic(), peer.cpu()
            length = via.get(where)
            if turn > 0:
                rounds[name].append(length / MEGABYTE / (time.monotonic() - begun))
                cpu[name] += peer.cpu() - before
    megabytes = DOWNLOADS * LARGE_MEGABYTES
    for name, rates in rounds.items():
        more = f"rss at most {wick.memory('VmHWM'):.0f} MiB" if name == "wick" else ""
        row(f"download {LARGE_MEGABYTES} MB from {name}", DOWNLOADS, sum(LARGE_MEGABYTES / rate for rate in rates), megabytes, cpu[name], more)
    parts = sorted(ours / theirs for ours, theirs in zip(rounds["wick"], rounds["nginx"]))
    print(f"wick : nginx = {statistics.median(parts):.2f} of its throughput, {parts[0]:.2f} to {parts[-1]:.2f} by round;", end=" ")
    # A short run may take less than the clock of processor time shows.
    print(f"{cpu['nginx'] / max(cpu['wick'], 1 / TICKS):.2f} of it for each CPU second")
    nginx.stop()


def thumbnails(wick, connection, folder):
    """Photos of 12 megapixels, each made small once, and by ImageMagick with one thread."""
    photos = []
    for number in range(PHOTOS):
        photo = folder / f"photo{number}.jpg"
        command = ["convert", "-seed", str(number), "-size", "1000x750", "plasma:fractal", "-resize", "4000x3000!"]
        subprocess.run([*command, "-attenuate", "0.2", "+noise", "Gaussian", "-quality", "90", str(photo)], check=True)
        photos.append(photo)
    # The server has closed the one that was idle meanwhile.
    connection = Connection(wick.port, connection.token)
    media = [connection.upload(photo) for photo in photos]
    megabytes = sum(photo.stat().st_size for photo in photos) / MEGABYTE
    figures = {}
    for width, height in [(800, 600), (96, 96)]:
        connection = Connection(wick.port, connection.token)
        query = f"?width={width}&height={height}&method=scale"
        begun, cpu = time.monotonic(), wick.cpu()
        for one in media:
            connection.get(f"/_matrix/client/v1/media/thumbnail/{one}{query}")
        ours = wick.cpu() - cpu
        memory = f"rss at most {wick.memory('VmHWM'):.0f} MiB"
        row(f"thumbnail {width}x{height} by wick", PHOTOS, time.monotonic() - begun, megabytes, ours, memory)
        # The size that wick has made of it: the next one that is configured.
        size = "800x600" if width == 800 else "320x240"
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        for photo in photos:
            command = ["convert", str(photo), "-auto-orient", "-thumbnail", size, "-quality", "85", str(folder / "small.jpg")]
            subprocess.run(command, check=True, env={**os.environ, "MAGICK_THREAD_LIMIT": "1"})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        theirs = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        row(f"thumbnail {size} by convert", PHOTOS, time.monotonic() - begun, megabytes, theirs)
        figures[size] = PHOTOS / ours, PHOTOS / theirs
    for size, (ours, theirs) in figures.items():
        print(f"{size}: {ours:.1f} thumbnails a CPU second, convert {theirs:.1f}: {ours / theirs:.2f} times as many")


def main():
    binary, folder = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True)
    wick = start_wick(binary, folder)
    try:
        connection, media, path = uploads(wick, folder)
        downloads(wick, connection, media, path, folder)
        if PHOTOS:
            thumbnails(wick, connection, folder)
    finally:
        wick.stop()
        shutil.rmtree(folder)


main()
