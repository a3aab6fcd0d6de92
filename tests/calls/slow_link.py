#!/usr/bin/env python3
"""A slow link that loses packets, between this host and a network namespace of its own. Needs root.

usage: slow_link.py NAMESPACE HERE THERE DELAY LOSS

The namespace, which is made, reaches this host from THERE by way of HERE (addresses of one /24). Each packet takes DELAY milliseconds
in each direction, and LOSS percent of them are lost. Prints a line when the link is up; ends when its input does.
"""

import fcntl
import heapq
import os
import random
import selectors
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME = 2048


def tap(name):
    """A network interface whose packets are read from and written to a file."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return file


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def carry(here, there, delay, loss):
    """Carries packets until the standard input ends."""
    waiting, count = [], 0
    selector = selectors.DefaultSelector()
    for file in (here, there, sys.stdin):
        selector.register(file, selectors.EVENT_READ)
    while True:
        wait = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in selector.select(wait):
            if key.fileobj is sys.stdin:
                return
            packet = os.read(key.fd, FRAME)
            if random.random() * 100 >= loss:
                count += 1
                other = there if key.fd == here else here
                heapq.heappush(waiting, (time.monotonic() + delay / 1000, count, other, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, file, packet = heapq.heappop(waiting)
            try:
                os.write(file, packet)
            except OSError:
                pass  # Lost, as by any network.


def main():
    namespace, here, there, delay, loss = sys.argv[1:]
    number = os.getpid()
    near, far = f"near{number}", f"far{number}"
    ip("netns", "add", namespace)
    try:
        files = tap(near), tap(far)
        ip("link", "set", far, "netns", namespace)
        for link, address, inside in ((near, here, []), (far, there, ["-n", namespace])):
            ip(*inside, "address", "add", f"{address}/24", "dev", link)
            ip(*inside, "link", "set", link, "up")
        ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", namespace, "route", "add", "default", "via", here)
        print("up", flush=True)
        carry(*files, float(delay), float(loss))
    finally:
        ip("netns", "del", namespace)


main()
