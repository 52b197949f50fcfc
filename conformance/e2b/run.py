#!/usr/bin/env python3
"""Runs E2B's own public suites in debug mode, with the published packages, against a sandbox of ours.

usage: run.py CHECKOUT SKEP_ENVD [python|javascript]...

CHECKOUT is a checkout of E2B's public repository at the versions that requirements.txt and package.json name; nothing of it is copied here.
SKEP_ENVD is the program that serves one sandbox (target/release/skep-envd). Needs root, as sandboxes with all fences do; `npm ci` in this folder
for JavaScript, and a Python that has requirements.txt. Prints passed, failed and skipped of each suite, and every failure with its reason;
ends with 1 if any failed that is not in EXPECTED.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# What fails here, and why. A name is part of the test's; whoever mends one takes it out.
EXPECTED = {
    "bash_command_scoped_env_vars": "needs sudo, which the template of a workstation brings and the host's own programs may not have",
    "bash command scoped env vars": "needs sudo, which the template of a workstation brings and the host's own programs may not have",
    "test_write_with_secured_envd": "asks for the token that only a control plane hands out",
    "test_ping_server": "reaches a port at localhost: in debug mode that is the host, and a sandbox has a network of its own",
    "write multiple files": "writes below / as an ordinary user, who may not",
}


def environment(port):
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and not name.startswith("E2B_")}
    return kept | {"E2B_DEBUG": "true", "E2B_SANDBOX_URL": f"http://127.0.0.1:{port}", "E2B_API_KEY": "e2b_" + "0" * 40}


def python(checkout, port, folder):
    # Without the source of the package beside the tests, what they import is what was published.
    for name in ["tests", "pytest.ini"]:
        source = checkout / "packages/python-sdk" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    report = folder / "report.xml"
    suites = ["tests/sync/sandbox_sync", "tests/async/sandbox_async", "tests/shared/git"]
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60", f"--junitxml={report}", *suites]
    subprocess.run(command, cwd=folder, env=environment(port), stdout=subprocess.DEVNULL, check=False)
    import xml.etree.ElementTree as xml

    for case in xml.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            yield name, "failed", bad.get("message", "")
        elif skipped is not None:
            yield name, "skipped", skipped.get("message", "")
        else:
            yield name, "passed", ""


def javascript(checkout, port, folder):
    report = folder / "report.json"
    command = ["node_modules/.bin/vitest", "run", "--config", "vitest.config.mjs", "--reporter=json", f"--outputFile={report}"]
    subprocess.run(command, cwd=HERE, env=environment(port) | {"E2B_CHECKOUT": str(checkout)}, stdout=subprocess.DEVNULL, check=False)
    for file in json.loads(report.read_text())["testResults"]:
        for case in file["assertionResults"]:
            status = {"passed": "passed", "failed": "failed"}.get(case["status"], "skipped")
            yield f"{Path(file['name']).name}::{case['title']}", status, "\n".join(case.get("failureMessages", []))


def suite(name, checkout, program):
    run = {"python": python, "javascript": javascript}[name]
    with tempfile.TemporaryDirectory() as box, tempfile.TemporaryDirectory() as folder:
        served = subprocess.Popen([program, box, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            results = list(run(checkout, served.stdout.readline().strip(), Path(folder)))
        finally:
            served.stdin.close()
            served.wait()
    counts = {status: sum(1 for result in results if result[1] == status) for status in ["passed", "failed", "skipped"]}
    print(f"{name}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    reasons = {}
    for test, status, why in results:
        if status == "skipped":
            reasons[why or "marked so"] = reasons.get(why or "marked so", 0) + 1
    for why, count in sorted(reasons.items()):
        print(f"  skipped {count}: {why}")
    unexpected = 0
    for test, status, why in results:
        if status == "failed":
            known = next((reason for part, reason in EXPECTED.items() if part in test), None)
            unexpected += known is None
            print(f"  failed {test}: {known or why.strip().splitlines()[0] if why.strip() else known or 'no reason given'}")
    return counts["passed"] > 0 and unexpected == 0


def main():
    checkout, program, *names = sys.argv[1:]
    done = [suite(name, Path(checkout).resolve(), program) for name in names or ["python", "javascript"]]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
