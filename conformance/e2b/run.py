#!/usr/bin/env python3
"""Runs E2B's own public suites, with the published packages, against sandboxes of ours.

usage: run.py CHECKOUT SKEP SKEP_ENVD [full|debug]... [python|javascript]...

CHECKOUT is a checkout of E2B's public repository at the versions that requirements.txt and package.json name; nothing of it is copied here, and it is
fetched by whoever runs this. SKEP is the skep binary and SKEP_ENVD the program that serves one sandbox (target/release/skep-envd). `full` runs all of a
suite against a node with a domain, certificates and a key, as a user of the packages has it; `debug` what E2B's debug mode leaves of it, against one
sandbox without a node. Needs root, as sandboxes with all fences do. Prints passed, failed and skipped of each suite by the package's version, each
reason for a skip, and every failure; ends with 1 if any test failed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import xml.etree.ElementTree as xml
from contextlib import contextmanager
from pathlib import Path

import check
from node import Node

HERE = Path(__file__).resolve().parent

INTERNET = "needs the internet, which this machine has not"
SUDO = "sudo cannot raise rights in a sandbox: who wants to be root asks for a command as root"
LATER = "the checkout is newer than the published package, and tests what came after it"
RULES = "asks for `rules` of the egress, which the node refuses by name"

# Part of a test's name, and why no machine of one's own runs it.
ALWAYS = {
    "bash_command_scoped_env_vars": SUDO,
    "bash command scoped env vars": SUDO,
    "firewall_transform_injects_headers": RULES,
    "firewall transform injects headers": RULES,
    "test_create_omits_none_credentials": LATER,
    "write multiple files": "writes below / as an ordinary user, who may not",
}

# Those that reach for the Internet: addresses of others, or images of a registry.
OUTSIDE = [
    "test_internet_access_enabled", "test_internet_access_default", "test_allow_specific_ip_with_deny_all", "test_deny_specific_ip",
    "test_allow_takes_precedence_over_deny", "test_update_network_applies_restrictions", "test_update_network_clears_existing_rules",
    "internet access enabled", "internet access default", "allow specific IP with deny all", "deny specific IP", "allow takes precedence over deny",
    "applies restrictions", "clears existing rules", "test_build_template_with_symlinks", "test_build_template_with_resolve_symlinks", "test_build_template_with_skip_cache",
    "test_build_in_background_should_start", "test_make_symlink", "methods/test_run_cmd.py", "build template with symlinks", "build template with skip cache",
    "build template with resolve symlinks", "build template with resolveSymlinks", "build template in background", "previously reachable IP", "should start building a template in the background", "make symlink", "run command",
]  # fmt: skip

# In debug mode a port at localhost is the host's, a token is nobody's, and there is one sandbox for all.
DEBUG = {
    "test_write_with_secured_envd": "asks for the token that only a control plane hands out",
    "test_ping_server": "reaches a port at localhost: in debug mode that is the host, and a sandbox has a network of its own",
    "ping server in running sandbox": "reaches a port at localhost: in debug mode that is the host, and a sandbox has a network of its own",
}

MOCKED = "replaces parts of the source, which the published package has built in"
INTERNAL = "tests functions of the source, which the published package does not show"


def is_online():
    try:
        # With a certificate that the world believes: something else may answer in its place.
        urllib.request.urlopen("https://1.1.1.1/", timeout=5).close()
        return True
    except OSError:
        return False


def skips(mode):
    outside = {} if is_online() else dict.fromkeys(OUTSIDE, INTERNET)
    return ALWAYS | outside | (DEBUG if mode == "debug" else {})


@contextmanager
def debug(program):
    """One sandbox on a port, as E2B's debug mode looks for one, and how a command is run against it."""
    with tempfile.TemporaryDirectory() as box:
        served = subprocess.Popen([program, box, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and not name.startswith("E2B_")}
            url = f"http://127.0.0.1:{served.stdout.readline().strip()}"
            environment = kept | {"E2B_DEBUG": "true", "E2B_SANDBOX_URL": url, "E2B_API_KEY": "e2b_" + "0" * 40}
            yield lambda command, env, **options: subprocess.run(command, env=environment | env, **options)
        finally:
            served.stdin.close()
            served.wait()


@contextmanager
def full(program):
    with Node(program, "[node.sandboxes]\nmake_base = true\nmemory_mb = 1024\n") as node:
        yield lambda command, env, **options: node.run(command, env=node.environment() | env, **options)


def python(checkout, mode, run, folder):
    # Without the source of the package beside the tests, what they import is what was published.
    for name in ["tests", "pytest.ini"]:
        source = checkout / "packages/python-sdk" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    report = folder / "report.xml"
    suites = ["tests"] if mode == "full" else ["tests/sync/sandbox_sync", "tests/async/sandbox_async", "tests/shared/git"]
    options = ["-q", "-p", "no:cacheprovider", "-p", "skips", "--timeout", "90", f"--junitxml={report}"]
    options += ["-n", "2"] if mode == "full" else []
    environment = {"SKIPS": json.dumps(skips(mode)), "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
    run([check.python(), "-P", "-m", "pytest", *options, *suites], environment, cwd=folder, stdout=subprocess.DEVNULL)
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


def own(text):
    """Why what fails in a file of JavaScript tests says nothing of the published package. `None`: it does say something."""
    if re.search(r"vi\.(mock|doMock|spyOn)\(|setupServer\(", text):
        return MOCKED
    is_internal = re.search(r"from '(?:\.\./)+src/(?!index'|errors(?:\.js)?')", text) and "/setup" not in text
    return INTERNAL if is_internal else None


def javascript(checkout, mode, run, folder):
    check.node_modules()
    report, reasons = folder / "report.json", skips(mode)
    suites = "tests/{api,sandbox,secret,template,volume,envd}/**/*.test.ts tests/*.test.ts" if mode == "full" else "tests/sandbox/{commands,files,pty,git}/**/*.test.ts"
    others = "|".join(map(re.escape, reasons))
    pattern = f"--testNamePattern=^(?!.*(?:{others}))"
    command = [HERE / "node_modules/.bin/vitest", "run", "--config", HERE / "vitest.config.mjs", "--reporter=json", f"--outputFile={report}", pattern]
    run(command, {"E2B_CHECKOUT": str(checkout), "E2B_SUITE": suites, "E2B_MODE": mode}, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for file in json.loads(report.read_text())["testResults"]:
        path = Path(file["name"])
        about_source = own(path.read_text())
        cases = file["assertionResults"]
        if not cases:
            yield path.name, "skipped" if about_source else "failed", about_source or file.get("message", "")
        for case in cases:
            name, why = f"{path.name}::{case['fullName']}", "\n".join(case.get("failureMessages", []))
            known = next((reason for part, reason in reasons.items() if part in case["fullName"]), about_source)
            if case["status"] == "passed":
                yield name, "passed", ""
            elif case["status"] == "failed" and known is None:
                yield name, "failed", why
            else:
                yield name, "skipped", known or "marked so"


def version(suite):
    if suite == "python":
        lines = (HERE / "requirements.txt").read_text().splitlines()
        return next(line.split("==")[1] for line in lines if line.startswith("e2b=="))
    return json.loads((HERE / "package.json").read_text())["dependencies"]["e2b"]


def tell(suite, mode, results):
    counts = {status: sum(1 for result in results if result[1] == status) for status in ["passed", "failed", "skipped"]}
    print(f"{suite} {version(suite)}, {mode}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    reasons = {}
    for _, status, why in results:
        if status == "skipped":
            reasons[why or "marked so"] = reasons.get(why or "marked so", 0) + 1
    for why, count in sorted(reasons.items()):
        print(f"  skipped {count}: {why}")
    for test, status, why in results:
        if status == "failed":
            print(f"  failed {test}: {(why.strip().splitlines() or ['no reason given'])[0][:400]}")
    return counts["passed"] > 0 and counts["failed"] == 0


def main():
    checkout, skep, envd, *wanted = sys.argv[1:]
    modes, suites = {"debug": (debug, envd), "full": (full, skep)}, {"python": python, "javascript": javascript}
    is_whole = True
    for mode in [mode for mode in modes if mode in wanted] or modes:
        serve, program = modes[mode]
        for suite in [suite for suite in suites if suite in wanted] or suites:
            with serve(str(Path(program).resolve())) as run, tempfile.TemporaryDirectory() as folder:
                is_whole &= tell(suite, mode, list(suites[suite](Path(checkout).resolve(), mode, run, Path(folder))))
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
