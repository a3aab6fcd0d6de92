"""matrix-js-sdk and its Rust crypto on both sides: tests/clients/federated."""

import os
import pathlib
import subprocess
import unittest

from servers import synapse, wick

CLIENTS = pathlib.Path(__file__).parent.parent / "clients" / "run"


class Encryption(unittest.TestCase):
    def test_devices_of_both_servers_decrypt_what_they_should_and_nothing_else(self):
        servers = {"WICK_URL": wick().url, "OTHER_URL": synapse().url}
        subprocess.run([CLIENTS, "federated"], env=os.environ | servers, check=True, timeout=600)


if __name__ == "__main__":
    unittest.main()
