"""What an agent does with E2B's Python package, against a sandbox in debug mode: commands, files, terminals, watches, git."""

import io
import time

from e2b import CommandExitException, FilesystemEventType, NotFoundException, PtySize, Sandbox, TimeoutException


def main():
    box = Sandbox.create()
    assert box.is_running()
    assert box.commands.run("echo $GREETING", envs={"GREETING": "hello"}).stdout == "hello\n"
    try:
        box.commands.run("echo no >&2; exit 3")
        raise AssertionError("a command that failed is an exception")
    except CommandExitException as failed:
        assert (failed.exit_code, failed.stderr) == (3, "no\n")
    try:
        box.commands.run("sleep 60", timeout=1)
        raise AssertionError("a command that takes too long is an exception")
    except TimeoutException:
        pass

    cat = box.commands.run("cat", background=True, stdin=True)
    box.commands.send_stdin(cat.pid, "typed\n")
    assert any(process.pid == cat.pid for process in box.commands.list())
    again = box.commands.connect(cat.pid)
    assert again.pid == cat.pid and box.commands.kill(cat.pid) and not box.commands.kill(cat.pid)

    box.files.write("work/text.txt", "text", metadata={"author": "agent"})
    box.files.write("work/bytes.bin", io.BytesIO(bytes(range(256)) * 4096))
    assert box.files.read("work/bytes.bin", format="bytes") == bytearray(bytes(range(256)) * 4096)
    assert box.files.get_info("work/text.txt").metadata == {"author": "agent"}
    assert [entry.name for entry in box.files.list("work")] == ["bytes.bin", "text.txt"]
    box.files.rename("work/text.txt", "work/renamed.txt")
    assert not box.files.exists("work/text.txt") and box.files.read("work/renamed.txt", gzip=True) == "text"
    try:
        box.files.read("work/nowhere")
        raise AssertionError("what is not there is an exception")
    except NotFoundException:
        pass

    watch = box.files.watch_dir("work", recursive=True)
    box.files.make_dir("work/deep/er")
    box.files.write("work/deep/er/seen", "x")
    events = watch.get_new_events()
    assert any(event.name == "deep/er/seen" and event.type == FilesystemEventType.WRITE for event in events), events
    watch.stop()

    terminal = box.pty.create(PtySize(rows=24, cols=80), timeout=30)
    box.pty.send_stdin(terminal.pid, b"stty size; exit\n")
    shown = []
    terminal.wait(on_pty=shown.append)
    assert b"24 80" in b"".join(shown), shown

    box.git.init("repo")
    box.git.configure_user("Agent", "agent@example.org")
    box.files.write("repo/file", "content")
    box.git.add("repo")
    box.git.commit("repo", "first")
    assert box.git.status("repo").is_clean

    began = time.monotonic()
    for _ in range(20):
        box.commands.run("true")
    print(f"python: all done; a command took {(time.monotonic() - began) * 50:.1f} ms")


main()
