"""The servers: wick at 127.0.0.1, Synapse at 127.0.0.2, each with a port for clients and one for servers.

WICK_BINARY, SYNAPSE_PYTHON and WICK_FEDERATION_FOLDER (with the certificates) come from `run`.
"""

import atexit
import functools
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

FOLDER = pathlib.Path(os.environ["WICK_FEDERATION_FOLDER"])
# A machine that does much else starts Synapse slowly.
START_SECONDS = 300


def free_port(address):
    with socket.socket() as bound:
        bound.bind((address, 0))
        return bound.getsockname()[1]


class Server:
    """A server as a process. Its files stay when it is stopped or killed."""

    def __init__(self, kind, address):
        self.kind = kind
        self.address = address
        self.client_port = free_port(address)
        self.server_port = free_port(address)
        self.name = f"{address}:{self.server_port}"
        self.url = f"http://{address}:{self.client_port}"
        self.process = None
        self.folder = FOLDER / f"{kind}-files"
        self.folder.mkdir()

    def __str__(self):
        return self.kind

    def command(self):
        raise NotImplementedError

    def start(self):
        with (FOLDER / f"{self.kind}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.url}/_matrix/client/versions", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        tail = (FOLDER / f"{self.kind}.log").read_text(errors="replace").splitlines()[-20:]
        raise AssertionError(f"{self.kind} did not start:\n" + "\n".join(tail))

    def end(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)

    def kill(self):
        self.end(signal.SIGKILL)


class Wick(Server):
    def __init__(self, kind="wick", address="127.0.0.1", more=""):
        super().__init__(kind, address)
        (self.folder / "wick.toml").write_text(
            f"""
server.name = "{self.name}"
listen.tcp = ["{self.address}:{self.client_port}"]
listen.tls = ["{self.address}:{self.server_port}"]
listen.tls_certificate = "{FOLDER}/{self.kind}.pem"
listen.tls_key = "{FOLDER}/{self.kind}.key"
database.path = "{self.folder}/database"
registration.mode = "open"
accounts.argon2_memory_kilobytes = 8
accounts.argon2_iterations = 1
federation.enabled = true
federation.deny_addresses = []
federation.extra_roots = "{FOLDER}/authority.pem"
limits.enabled = false
metrics.enabled = false
logging.filter = "{os.environ.get("WICK_LOG", "info,ruma_state_res=warn")}"
{more}
"""
        )

    def command(self):
        return [os.environ["WICK_BINARY"], "--config", str(self.folder / "wick.toml")]


class Synapse(Server):
    def __init__(self):
        super().__init__("synapse", "127.0.0.2")
        many = {"per_second": 1000000, "burst_count": 1000000}
        listener = {"bind_addresses": [self.address], "type": "http"}
        configuration = {
            "server_name": self.name,
            "listeners": [
                {**listener, "port": self.client_port, "resources": [{"names": ["client"]}]},
                {**listener, "port": self.server_port, "tls": True, "resources": [{"names": ["federation"]}]},
            ],
            "tls_certificate_path": f"{FOLDER}/synapse.pem",
            "tls_private_key_path": f"{FOLDER}/synapse.key",
            "federation_custom_ca_list": [f"{FOLDER}/authority.pem"],
            "ip_range_blacklist": [],
            "trusted_key_servers": [],
            # Outages in the tests last seconds.
            "federation": {
                "destination_min_retry_interval": "1s",
                "destination_max_retry_interval": "5s",
                "destination_retry_multiplier": 2,
            },
            "database": {"name": "sqlite3", "args": {"database": f"{self.folder}/homeserver.db"}},
            "log_config": f"{self.folder}/log.yaml",
            "media_store_path": f"{self.folder}/media",
            "signing_key_path": f"{self.folder}/signing.key",
            "pid_file": f"{self.folder}/pid",
            "macaroon_secret_key": "test",
            "form_secret": "test",
            "report_stats": False,
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "allow_public_rooms_over_federation": True,
            "room_list_publication_rules": [{"action": "allow"}],
            "bcrypt_rounds": 4,
            "rc_message": many,
            "rc_registration": many,
            "rc_login": {"address": many, "account": many, "failed_attempts": many},
            "rc_joins": {"local": many, "remote": many},
            "rc_joins_per_room": many,
            "rc_room_creation": many,
            "rc_invites": {"per_room": many, "per_user": many, "per_issuer": many},
            "rc_federation": {"window_size": 1000, "sleep_limit": 100000, "reject_limit": 100000, "concurrent": 100},
        }
        # JSON is YAML.
        (self.folder / "homeserver.yaml").write_text(json.dumps(configuration))
        log = {
            "version": 1,
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
            "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": os.environ.get("SYNAPSE_LOG", "INFO"), "handlers": ["out"]},
            "disable_existing_loggers": False,
        }
        (self.folder / "log.yaml").write_text(json.dumps(log))
        self.run_synapse("--generate-keys")

    def arguments(self):
        return [os.environ["SYNAPSE_PYTHON"], "-m", "synapse.app.homeserver", "-c", "homeserver.yaml"]

    def run_synapse(self, argument):
        subprocess.run([*self.arguments(), argument], cwd=self.folder, check=True, capture_output=True, timeout=START_SECONDS)

    def command(self):
        return self.arguments()


class Dendrite(Server):
    def __init__(self):
        super().__init__("dendrite", "127.0.0.5")
        self.binaries = pathlib.Path(os.environ["DENDRITE_FOLDER"])
        made = [self.binaries / "generate-config", "-dir", self.folder, "-server", self.name]
        text = subprocess.run(made, check=True, capture_output=True, text=True, timeout=60).stdout
        for old, new in (
            ("private_key: matrix_key.pem", f"private_key: {self.folder}/matrix_key.pem"),
            ("registration_disabled: true", "registration_disabled: false"),
            ("rate_limiting:\n    enabled: true", "rate_limiting:\n    enabled: false"),
            ("prefer_direct_fetch: false", "prefer_direct_fetch: true"),
            ("enable_inbound: false", "enable_inbound: true"),
            ("enable_outbound: false", "enable_outbound: true"),
            ("server_notices:\n    enabled: true", "server_notices:\n    enabled: false"),
            ("bcrypt_cost: 10", "bcrypt_cost: 4"),
        ):
            text = text.replace(old, new)
        before, _, after = text.partition("  key_perspectives:")
        text = before + after[after.index("  prefer_direct_fetch") :]
        (self.folder / "dendrite.yaml").write_text(text)
        made = [self.binaries / "generate-keys", "-private-key", self.folder / "matrix_key.pem"]
        subprocess.run(made, check=True, capture_output=True, timeout=60)

    def command(self):
        # It trusts the authorities of a file that Go's variable names.
        return [
            "env", f"SSL_CERT_FILE={FOLDER}/authority.pem", self.binaries / "dendrite",
            "-config", "dendrite.yaml", "-really-enable-open-registration",
            "-http-bind-address", f"{self.address}:{self.client_port}",
            "-https-bind-address", f"{self.address}:{self.server_port}",
            "-tls-cert", f"{FOLDER}/dendrite.pem", "-tls-key", f"{FOLDER}/dendrite.key",
        ]  # fmt: skip


def started(server):
    atexit.register(server.end)
    server.start()
    return server


@functools.cache
def wick():
    return started(Wick())


@functools.cache
def synapse():
    return started(Synapse())


@functools.cache
def dendrite():
    return started(Dendrite())
