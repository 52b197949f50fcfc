#!/usr/bin/env python3
"""Our own tests of E2B's wire, through the packages as they are published: Python, sync and async, and JavaScript.

usage: check.py SKEP [sync|async|javascript]...

Each runs against a node of its own kind of start: `skep up` with its domain, its certificates and a key, as a user of the packages has it. What is
installed for that lies in `target/e2b` and in `node_modules` here. The last line says `N passed, N failed`; a machine that lacks what sandboxes
need is passed over by naming it.
"""

import hashlib
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from node import Missing, Node

HERE = Path(__file__).resolve().parent
INSTALLED = HERE.parents[1] / "target/e2b"


def current(mark, *files):
    """Whether what was installed is of these very lists."""
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return mark.exists() and mark.read_text() == wanted, wanted


def python():
    """A Python that has what requirements.txt names."""
    venv, requirements = INSTALLED / "venv", HERE / "requirements.txt"
    done, wanted = current(venv / "installed", requirements)
    if not done:
        shutil.rmtree(venv, ignore_errors=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True)
        except subprocess.CalledProcessError:
            # A Debian without python3-venv still has pip.
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        install = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(install, check=True)
        (venv / "installed").write_text(wanted)
    return venv / "bin/python"


def node_modules():
    mark = HERE / "node_modules/installed"
    done, wanted = current(mark, HERE / "package-lock.json")
    if not done:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=HERE, check=True)
        mark.write_text(wanted)
    return "node"


def programs(wanted):
    known = {
        "sync": lambda: [python(), HERE / "sdk.py", "sync"],
        "async": lambda: [python(), HERE / "sdk.py", "async"],
        "javascript": lambda: [node_modules(), HERE / "sdk.mjs"],
    }
    return {name: known[name]() for name in wanted or known}


def main():
    program, *wanted = sys.argv[1:]
    try:
        commands = programs(wanted)
        with Node(Path(program).resolve()) as node, ThreadPoolExecutor() as pool:
            run = lambda command: node.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
            running = {name: pool.submit(run, command) for name, command in commands.items()}
            counts = {"ok": 0, "not ok": 0, "passed over": 0}
            for name, ended in running.items():
                done = ended.result()
                lines = done.stdout.splitlines()
                found = {kind: sum(line.startswith(f"{kind} ") for line in lines) for kind in counts}
                found["not ok"] += done.returncode != 0 and found["not ok"] == 0
                print(f"e2b {name}: {found['ok']} of {sum(found.values())}")
                print("".join(f"  {line}\n" for line in lines if not line.startswith("ok ")), end="")
                counts = {kind: counts[kind] + found[kind] for kind in counts}
            if counts["not ok"]:
                print("the node's log:", *node.log.read_text().splitlines()[-40:], sep="\n  ")
    except Missing as missing:
        print(f"e2b: passed over: this machine lacks {missing}")
        return 0
    print(f"{counts['ok']} passed, {counts['not ok']} failed, {counts['passed over']} skipped")
    return 1 if counts["not ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
