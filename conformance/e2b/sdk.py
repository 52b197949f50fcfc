"""What an agent's program does with E2B's Python package, case by case, against a node of ours. `sdk.py sync` or `sdk.py async`.

A case is written once, for both kinds of the package: what the async kind returns is awaited (`done`). Prints `ok NAME`, `not ok NAME: why` or
`passed over NAME: why` of each. It is told by the environment alone where the node is, as E2B's documentation has it.
"""

import asyncio
import inspect
import io
import os
import ssl
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from pathlib import Path

import e2b
from e2b import BuildException, CommandExitException, FilesystemEventType, NotFoundException, PtySize, SandboxException, TimeoutException
from e2b.sandbox.sandbox_api import SandboxQuery

KIND = sys.argv[1]
IS_ASYNC = KIND == "async"
Sandbox = e2b.AsyncSandbox if IS_ASYNC else e2b.Sandbox
Template = e2b.AsyncTemplate if IS_ASYNC else e2b.Template
MARK = f"{KIND}-{time.time_ns()}"
TRUST = ssl.create_default_context()
SERVER = "python3 -c \"import http.server as h; h.ThreadingHTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()\""

CASES = []


class PassedOver(Exception):
    pass


def case(run):
    CASES.append(run)
    return run


async def done(value):
    return await value if inspect.isawaitable(value) else value


async def create(template=None, **options):
    return await done(Sandbox.create(template, metadata={"test": MARK}, **{"timeout": 120} | options))


async def out(box, line, **options):
    return (await done(box.commands.run(line, **options))).stdout


async def until(what, found, within=15):
    """Asks until the answer is yes."""
    ends = time.monotonic() + within
    while time.monotonic() < ends:
        if await found():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what}: not within {within} s")


async def raises(kind, call, says=""):
    try:
        await done(call())
    except kind as error:
        assert says in str(error), error
        return error
    raise AssertionError(f"expected {kind.__name__}")


async def fetch(url, data=None, headers=None, method=None):
    """Status and body, whatever the status."""

    def ask():
        request = urllib.request.Request(url, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20, context=TRUST) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    return await asyncio.to_thread(ask)


async def serve(box, port, headers=None):
    await done(box.commands.run(SERVER.format(port=port), background=True))
    url = f"https://{box.get_host(port)}/"

    async def answers():
        return (await fetch(url, headers=headers))[0] == 200

    await until("a server within answers", answers)
    return url


@case
async def life():
    box = await create(envs={"GREETING": "hello"})
    assert await done(box.is_running())
    info = await done(box.get_info())
    assert (info.metadata, info.state.value, info.template_id) == ({"test": MARK}, "running", "base")
    assert await out(box, "echo $GREETING $(id -un) $(pwd)") == "hello user /home/user\n"
    await done(box.set_timeout(600))
    assert (await done(box.get_info())).end_at > info.end_at
    again = await done(Sandbox.connect(box.sandbox_id))
    assert await out(again, "echo again") == "again\n"
    assert await done(box.kill()) and not await done(Sandbox.kill(box.sandbox_id))
    assert not await done(box.is_running())
    await raises(SandboxException, lambda: Sandbox.connect(box.sandbox_id))


@case
async def lists_by_metadata_and_state():
    boxes = [await create() for _ in range(3)]
    await done(boxes[0].pause())
    wanted = {box.sandbox_id for box in boxes}
    found, pages = [], Sandbox.list(query=SandboxQuery(metadata={"test": MARK}), limit=2)
    while pages.has_next:
        found += await done(pages.next_items())
    found = {info.sandbox_id: info.state.value for info in found}
    assert wanted <= found.keys() and found[boxes[0].sandbox_id] == "paused", found
    paused = Sandbox.list(query=SandboxQuery(metadata={"test": MARK}, state=[e2b.SandboxState.PAUSED]))
    assert [info.sandbox_id for info in await done(paused.next_items())] == [boxes[0].sandbox_id]
    for box in boxes:
        await done(box.kill())


@case
async def time_is_up():
    box = await create(timeout=2)
    await until("it goes by itself", lambda: gone(box))
    box = await create()
    await done(box.set_timeout(0))
    await until("it goes at once", lambda: gone(box))


async def gone(box):
    return not await done(box.is_running())


@case
async def commands():
    box = await create()
    failed = await raises(CommandExitException, lambda: box.commands.run("echo no >&2; exit 3"))
    assert (failed.exit_code, failed.stderr) == (3, "no\n")
    await raises(TimeoutException, lambda: box.commands.run("sleep 60", timeout=1))
    assert await out(box, "echo $A; pwd", envs={"A": "b"}, cwd="/tmp") == "b\n/tmp\n"
    assert await out(box, "id -u", user="root") == "0\n"
    cat = await done(box.commands.run("cat", background=True, stdin=True))
    await done(box.commands.send_stdin(cat.pid, "typed\n"))
    assert any(process.pid == cat.pid for process in await done(box.commands.list()))
    again = await done(box.commands.connect(cat.pid))
    assert again.pid == cat.pid
    assert await done(box.commands.kill(cat.pid))
    await until("nobody has its number", lambda: unknown(box, cat.pid))
    await done(box.kill())


async def unknown(box, pid):
    return not await done(box.commands.kill(pid))


@case
async def output_streams_while_a_command_runs():
    box = await create()
    told, line = [], "echo one; sleep 0.5; echo two >&2; sleep 0.5; echo three"
    note = lambda which: lambda text: told.append((which, text, time.monotonic()))
    result = await done(box.commands.run(line, on_stdout=note("out"), on_stderr=note("err")))
    assert [piece[:2] for piece in told] == [("out", "one\n"), ("err", "two\n"), ("out", "three\n")], told
    assert told[2][2] - told[0][2] > 0.5 and result.stdout == "one\nthree\n"
    large = await out(box, "head -c 5000000 /dev/zero | tr '\\0' x")
    assert large == "x" * 5_000_000
    await done(box.kill())


@case
async def terminals():
    box = await create()
    shown = []
    if IS_ASYNC:
        terminal = await box.pty.create(PtySize(rows=24, cols=80), on_data=shown.append, timeout=30)
    else:
        terminal = box.pty.create(PtySize(rows=24, cols=80), timeout=30)
    await done(box.pty.resize(terminal.pid, PtySize(rows=40, cols=100)))
    await done(box.pty.send_stdin(terminal.pid, b"stty size; exit\n"))
    await done(terminal.wait() if IS_ASYNC else terminal.wait(on_pty=shown.append))
    assert b"40 100" in b"".join(bytes(piece) for piece in shown), shown
    await done(box.kill())


@case
async def files():
    box = await create()
    await done(box.files.write("work/text.txt", "text", metadata={"author": "agent"}))
    content = bytes(range(256)) * 4096
    await done(box.files.write("work/bytes.bin", io.BytesIO(content)))
    assert await done(box.files.read("work/bytes.bin", format="bytes")) == bytearray(content)
    assert (await done(box.files.get_info("work/text.txt"))).metadata == {"author": "agent"}
    assert [entry.name for entry in await done(box.files.list("work"))] == ["bytes.bin", "text.txt"]
    await done(box.files.rename("work/text.txt", "work/renamed.txt"))
    assert not await done(box.files.exists("work/text.txt"))
    assert await done(box.files.read("work/renamed.txt", gzip=True)) == "text"
    await done(box.files.remove("work/renamed.txt"))
    await raises(NotFoundException, lambda: box.files.read("work/renamed.txt"))
    await done(box.kill())


@case
async def watches():
    box = await create()
    await done(box.files.make_dir("work"))
    seen = []
    watch = await done(box.files.watch_dir("work", seen.append, recursive=True) if IS_ASYNC else box.files.watch_dir("work", recursive=True))
    await done(box.files.make_dir("work/deep/er"))
    await done(box.files.write("work/deep/er/seen", "x"))

    async def told():
        if not IS_ASYNC:
            seen.extend(watch.get_new_events())
        return any((event.name, event.type) == ("deep/er/seen", FilesystemEventType.WRITE) for event in seen)

    await until("the write is told", told)
    await done(watch.stop())
    await done(box.kill())


@case
async def signed_urls():
    box = await create()
    await done(box.files.write("secret.txt", "signed"))
    url = box.download_url("secret.txt", use_signature_expiration=60)
    assert await fetch(url) == (200, b"signed")
    plain = url.split("&signature")[0]
    assert (await fetch(plain))[0] == 401
    assert (await fetch(url.replace("secret.txt", ".bashrc")))[0] == 401
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="up.txt"\r\n\r\nuploaded\r\n--b--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert (await fetch(box.upload_url("up.txt"), form, kind))[0] == 200
    assert await done(box.files.read("up.txt")) == "uploaded"
    late = box.download_url("secret.txt", use_signature_expiration=1)
    await asyncio.sleep(2.1)
    assert (await fetch(late))[0] == 401
    await done(box.kill())


@case
async def ports_by_host():
    box = await create()
    await done(box.files.write("page.txt", "from within"))
    url = await serve(box, 8000)
    assert await fetch(f"{url}page.txt") == (200, b"from within")
    closed = await fetch(f"https://{box.get_host(8001)}/")
    assert closed[0] == 502 and b"8001" in closed[1]
    await done(box.kill())
    assert (await fetch(url))[0] == 502


@case
async def private_ports():
    box = await create(network={"allow_public_traffic": False})
    url = await serve(box, 8000, {"e2b-traffic-access-token": box.traffic_access_token})
    assert (await fetch(url))[0] == 403
    assert (await fetch(url, headers={"e2b-traffic-access-token": "0" * 64}))[0] == 403
    await done(box.kill())


@case
async def pause_and_resume():
    box = await create()
    sleep = await done(box.commands.run("sleep 1000", background=True))
    await done(box.files.write("kept", "kept"))
    assert await done(box.pause()) and not await done(box.pause())
    assert not await done(box.is_running())
    await done(box.connect())
    assert await done(box.is_running()) and await done(box.files.read("kept")) == "kept"
    assert sleep.pid in [process.pid for process in await done(box.commands.list())], "memory is kept"
    await done(box.pause(keep_memory=False))
    await done(box.connect())
    assert await done(box.files.read("kept")) == "kept"
    assert await done(box.commands.list()) == [], "files alone were kept"
    await done(box.kill())


@case
async def traffic_resumes():
    box = await create(lifecycle={"on_timeout": "pause", "auto_resume": True})
    url = await serve(box, 8000)
    await done(box.set_timeout(0))

    async def paused():
        return (await done(box.get_info())).state.value == "paused"

    await until("it pauses when its time is up", paused)
    assert (await fetch(url))[0] == 200
    assert (await done(box.get_info())).state.value == "running"
    await done(box.kill())


@case
async def snapshots():
    box = await create()
    await done(box.files.write("state", "then"))
    snapshot = await done(box.create_snapshot(name=f"snap-{MARK}"))
    await done(box.files.write("state", "now"))
    listed = await done(Sandbox.list_snapshots(sandbox_id=box.sandbox_id).next_items())
    assert [one.snapshot_id for one in listed] == [snapshot.snapshot_id]
    for name in (snapshot.snapshot_id, f"snap-{MARK}"):
        other = await create(name)
        assert await done(other.files.read("state")) == "then"
        await done(other.kill())
    assert await done(box.files.read("state")) == "now"
    assert await done(Sandbox.delete_snapshot(snapshot.snapshot_id))
    assert not await done(Sandbox.delete_snapshot(snapshot.snapshot_id))
    await done(box.kill())


@case
async def forks():
    box = await create()
    await done(box.files.write("state", "parent"))
    one, two = await done(box.fork(count=2, timeout=60))
    await done(one.files.write("state", "one"))
    assert [await done(each.files.read("state")) for each in (box, one, two)] == ["parent", "one", "parent"]
    for each in (box, one, two):
        await done(each.kill())


@case
async def the_network_changes_while_it_runs():
    box = await create(allow_internet_access=False)
    assert (await done(box.get_info())).allow_internet_access is False
    refused = await raises(CommandExitException, lambda: box.commands.run("curl -sS --max-time 10 http://192.0.2.1/"))
    assert refused.exit_code == 7, refused
    await done(box.update_network({"allow_out": ["192.0.2.0/24", "*.example.org"], "deny_out": ["0.0.0.0/0"]}))
    network = (await done(box.get_info())).network
    assert (network["allow_out"], network["deny_out"]) == (["192.0.2.0/24", "*.example.org"], ["0.0.0.0/0"]), network
    await done(box.update_network({}))
    await raises(SandboxException, lambda: box.update_network({"allow_out": ["a b"]}), "400")
    header = {"transform": {"headers": {"x": "y"}}}
    await raises(SandboxException, lambda: box.update_network({"rules": {"a.example": [header]}}), "rules")
    await raises(SandboxException, lambda: create(network={"egress_proxy": {"address": "proxy.example:1080"}}), "egressProxy")
    await done(box.kill())


@case
async def templates():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "greeting.txt").write_text("hello")
        template = (
            Template(file_context_path=folder)
            .from_base_image()
            .copy("greeting.txt", "/opt/made/", user="root", mode=0o640)
            .set_envs({"STAGE": "built", "OTHER": "too"})
            .run_cmd("cp /opt/made/greeting.txt /opt/made/copy && chmod 644 /opt/made/copy", user="root")
            .set_workdir("/opt/made")
            .set_start_cmd("touch /tmp/started; exec sleep 1000", "test -e /tmp/started")
        )
        name, lines = f"made-{MARK}", []
        assert not await done(Template.exists(name))
        options = {"cpu_count": 1, "memory_mb": 512, "on_build_logs": lambda line: lines.append(line.message)}
        built = await done(Template.build(template, f"{name}:v1", **options))
        assert any("RUN cp" in line for line in lines), lines
        box = await create(f"{name}:v1")
        assert await out(box, "pwd; echo $STAGE $OTHER; cat copy; ls /tmp/started; stat -c %a%U greeting.txt") == "/opt/made\nbuilt too\nhello/tmp/started\n640root\n"
        info = await done(box.get_info())
        assert (info.cpu_count, info.memory_mb) == (1, 512), info
        await done(box.kill())
        # The second time nothing is made anew.
        lines.clear()
        await done(Template.build(template, f"{name}:v2", **options))
        assert any("is here already" in line for line in lines), lines
    assert await done(Template.exists(name))
    given = await done(Template.assign_tags(f"{name}:v1", ["stable"]))
    assert (given.build_id, given.tags) == (built.build_id, ["stable"])
    assert {tag.tag for tag in await done(Template.get_tags(name))} == {"v1", "v2", "stable"}
    await done(Template.remove_tags(name, ["v2"]))
    await raises(SandboxException, lambda: create(f"{name}:v2"), "404")
    broken = Template().from_template(f"{name}:stable").run_cmd("echo what went wrong; exit 3")
    await raises(BuildException, lambda: Template.build(broken, f"broken-{MARK}"), "code 3")
    await raises(BuildException, lambda: Template.build(Template().from_template("nowhere"), f"broken-{MARK}"), "nowhere")
    key = {"X-API-Key": os.environ["E2B_API_KEY"]}
    for template in (built.template_id, f"broken-{MARK}"):
        assert (await fetch(f"https://api.{os.environ['E2B_DOMAIN']}/templates/{template}", headers=key, method="DELETE"))[0] == 204
    assert not await done(Template.exists(name))


@case
async def metrics():
    box = await create()
    await until("it is measured", lambda: measured(box))
    sample = (await done(box.get_metrics()))[0]
    assert sample.cpu_count >= 1 and sample.mem_total > 0 and sample.disk_total > 0, sample
    await done(box.kill())


async def measured(box):
    return bool(await done(box.get_metrics()))


@case
async def git():
    box = await create()
    await done(box.git.init("repo"))
    await done(box.git.configure_user("Agent", "agent@example.org"))
    await done(box.files.write("repo/file", "content"))
    await done(box.git.add("repo"))
    await done(box.git.commit("repo", "first"))
    assert (await done(box.git.status("repo"))).is_clean
    await done(box.kill())


@case
async def strangers_get_nowhere():
    box = await create()
    await raises(e2b.AuthenticationException, lambda: Sandbox.connect(box.sandbox_id, api_key="e2b_" + "0" * 40))
    url = f"https://{box.get_host(49983)}"
    assert (await fetch(f"{url}/metrics"))[0] == 401
    assert (await fetch(f"{url}/metrics", headers={"X-Access-Token": "0" * 64}))[0] == 401
    assert (await fetch(f"{url}/init", b"{}", {"Content-Type": "application/json"}))[0] in (401, 404)
    await done(box.kill())


@case
async def code_runs_in_contexts():
    try:
        import e2b_code_interpreter as interpreter
    except ImportError as error:
        raise PassedOver(str(error)) from None
    kind = interpreter.AsyncSandbox if IS_ASYNC else interpreter.Sandbox
    box = await done(kind.create(timeout=120, metadata={"test": MARK}))
    ran = await done(box.run_code("let a = 20; a + 22", language="javascript"))
    assert ran.error is None and ran.text == "42", ran
    kept = await done(box.run_code("console.log(a)", language="javascript"))
    assert kept.logs.stdout == ["20\n"], kept
    context = await done(box.create_code_context(language="javascript"))
    alone = await done(box.run_code("typeof a", context=context))
    assert "undefined" in (alone.text or ""), alone
    failed = await done(box.run_code("throw new TypeError('no')", language="javascript"))
    assert failed.error.name == "TypeError" and failed.error.value == "no", failed
    has_kernel = await done(box.commands.run("python3 -c 'import ipykernel' || true"))
    if "Error" in has_kernel.stderr:
        await done(box.kill())
        raise PassedOver("this host's Python has no ipykernel: JavaScript alone was run")
    ran = await done(box.run_code("x = 41; x + 1"))
    assert ran.text == "42", ran
    await done(box.kill())


async def main():
    failed = 0
    for run in CASES:
        began = time.monotonic()
        try:
            await asyncio.wait_for(run(), 60)
            print(f"ok {run.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except PassedOver as why:
            print(f"passed over {run.__name__}: {why}", flush=True)
        except Exception as error:
            failed += 1
            where = " <- ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(traceback.extract_tb(error.__traceback__)) if frame.filename == __file__)
            print(f"not ok {run.__name__}: {type(error).__name__}: {str(error)[:600]} ({where})", flush=True)
    return failed


sys.exit(1 if asyncio.run(main()) else 0)
