"""A node with a domain of its own, and a place in which programs find it there: what the tests of this folder run against.

The packages under test are told no more than a user tells them: a domain and a key. So the names below that domain have to lead here, and its
certificates have to be believed. Both are arranged for the programs alone that `Node.run` starts: they have a mount namespace of their own with a
resolver of ours in `resolv.conf`, and the node's authority in the variables that OpenSSL, rustls and Node.js read. Nothing of the host is changed.
It is not: a test.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

# Of loopback, where nobody else's resolver listens.
RESOLVER = ("127.83.75.80", 53)


class Missing(Exception):
    """What this machine lacks, so that there is nothing to test."""


def resolve(server, domain):
    """Answers each question for a name below the domain with 127.0.0.1; other names are not known."""
    while True:
        try:
            query, asker = server.recvfrom(4096)
        except OSError:
            return
        name, at = [], 12
        while at < len(query) and query[at]:
            name.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace").lower())
            at += 1 + query[at]
        question = query[12 : at + 5]
        ours = ".".join(name).endswith(domain)
        is_a = question[-4:] == b"\0\1\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if ours and is_a else b""
        flags = b"\x81\x80" if ours else b"\x81\x83"
        server.sendto(query[:2] + flags + b"\0\1" + bytes([0, 1 if answer else 0]) + b"\0\0\0\0" + question + answer, asker)


class Node:
    """`skep up` in a folder that goes when it ends."""

    def __init__(self, program, settings=""):
        self.program, self.settings = str(program), settings

    def __enter__(self):
        # Whoever ends the tests ends the node, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        if os.geteuid() != 0:
            raise Missing("root: sandboxes with all fences need it, and so does a resolver of one's own")
        if shutil.which("unshare") is None:
            raise Missing("the program `unshare`, which gives the tests a resolver of their own")
        self.folder = Path(tempfile.mkdtemp(prefix="skep-e2b-"))
        try:
            self.start()
            self.find()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def start(self):
        config, self.log = self.folder / "skep.toml", self.folder / "log"
        config.write_text('[node.log]\ntrust_any_folder = true\n[server.sandboxes]\nlisten = "127.0.0.1:0"\n' + self.settings)
        command = [self.program, "--json", "up", "--listen", "127.0.0.1:0", "--data", self.folder / "data", "--config", config]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        said = json.loads(self.process.stdout.readline() or "{}")
        if "url" not in said:
            raise RuntimeError(f"skep up did not start: {self.log.read_text()}")
        if "sandboxes" not in said:
            why = [line for line in self.log.read_text().splitlines() if "no sandboxes" in line]
            raise Missing("a fence that sandboxes need: " + "; ".join(why))
        self.url, self.domain, self.authority = said["url"], said["sandboxes"]["domain"], said["sandboxes"]["authority"]
        self.key = self.skep("key", "create", "--scope", "sandboxes", "--e2b").strip()

    def skep(self, *arguments):
        command = [self.program, "--data", str(self.folder / "data"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def find(self):
        """Makes the names below the domain be found."""
        self.resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.resolver.bind(RESOLVER)
        except OSError as error:
            raise Missing(f"port 53 of a loopback address: {error}") from None
        name = self.domain.rsplit(":", 1)[0]
        threading.Thread(target=resolve, args=(self.resolver, name), daemon=True).start()
        (self.folder / "resolv.conf").write_text(f"nameserver {RESOLVER[0]}\noptions timeout:1 attempts:2\n")
        (self.folder / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
        tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
        if tried.returncode != 0:
            raise Missing(f"mount namespaces: {tried.stderr.strip()}")

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and not name.startswith("E2B_")}
        trust = {name: self.authority for name in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"]}
        return kept | trust | {"E2B_API_KEY": self.key, "E2B_DOMAIN": self.domain}

    def run(self, command, **options):
        """Starts a program that finds the node as its users do."""
        mounted = ["resolv.conf", "nsswitch.conf"]
        lines = [f"mount --bind {self.folder}/{name} /etc/{name}" for name in mounted]
        script = " && ".join([*lines, 'exec "$@"'])
        options = {"env": self.environment()} | options
        return subprocess.run(["unshare", "--mount", "sh", "-c", script, "run", *map(str, command)], **options)

    def __exit__(self, *_):
        if hasattr(self, "resolver"):
            self.resolver.close()
        if hasattr(self, "process"):
            if hasattr(self, "key") and self.process.poll() is None:
                self.empty()
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def empty(self):
        """A node that stops leaves its sandboxes as they are."""
        listed = json.loads(self.skep("--json", "sandbox", "ls"))["sandboxes"]
        if listed:
            self.skep("sandbox", "rm", *[sandbox["id"] for sandbox in listed])
