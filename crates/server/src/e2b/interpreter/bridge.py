"""Between a node and one ipykernel: lines of JSON on the standard streams here, Jupyter's messages there.

Started by the node within a sandbox as `python3 -u -c <this> <display.py> <folder>`. Everything is the sandbox's own: what this program says is believed by
the node no more than what any program in there says.
"""

import json
import os
import queue
import sys
import tempfile
import threading
import time

# The kernel inherits the standard streams: what it, or a library, writes there must not be taken for ours.
commands = os.fdopen(os.dup(0), "rb")
answers = os.dup(1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)

saying = threading.Lock()


def say(number, **message):
    left = memoryview(f"{number} {json.dumps(message)}\n".encode())
    with saying:
        while left:
            left = left[os.write(answers, left):]


def kernel(folder):
    from jupyter_client import KernelManager

    # Sockets by path: no port of the sandbox is taken, and nobody but this user connects.
    place = tempfile.mkdtemp(prefix="skep-")
    os.environ["JUPYTER_RUNTIME_DIR"] = place
    manager = KernelManager(kernel_name="python3", transport="ipc", connection_file=os.path.join(place, "k.json"))
    manager.start_kernel(cwd=folder)
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    return manager, client


MIMES = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}


def result(bundle, main):
    shown, extra = {}, {}
    for mime, value in bundle.items():
        (shown if mime in MIMES else extra)[MIMES.get(mime, mime)] = value
    text = shown.get("text")
    if isinstance(text, str) and len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        shown["text"] = text[1:-1]
    if extra:
        shown["extra"] = extra
    return {"type": "result", "is_main_result": main, **shown}


def output(message):
    """What a message of the kernel is to the caller, if anything."""
    kind, content = message["msg_type"], message["content"]
    if kind == "stream" and content["name"] in ("stdout", "stderr"):
        return {"type": content["name"], "text": content["text"], "timestamp": time.time_ns()}
    if kind in ("display_data", "execute_result"):
        return result(content["data"], kind == "execute_result")
    if kind == "execute_input":
        return {"type": "number_of_executions", "execution_count": content["execution_count"]}
    if kind == "error":
        return {"type": "error", "name": content["ename"], "value": content["evalue"], "traceback": "\n".join(content["traceback"])}
    return None


class Interpreter:
    def __init__(self, manager, client):
        self.manager, self.client = manager, client

    def run(self, code, heard, silent=False):
        """Runs a cell to its end, and tells whether the kernel is still there."""
        cell = self.client.execute(code, silent=silent, store_history=not silent, allow_stdin=False)
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                if not self.manager.is_alive():
                    return False
                continue
            if message["parent_header"].get("msg_id") != cell:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
            said = output(message)
            if said is not None:
                heard(said)
        # The reply of the shell says nothing that was not heard; unread, replies would pile up.
        while True:
            try:
                if self.client.get_shell_msg(timeout=2)["parent_header"].get("msg_id") == cell:
                    return True
            except queue.Empty:
                return self.manager.is_alive()

    def execute(self, number, code, env):
        def heard(said):
            say(number, **said)

        def unheard(_):
            pass

        module = "__import__('_skep_display')"
        alive = not env or self.run(f"{module}.enter({env!r})", unheard, silent=True)
        alive = alive and self.run(code, heard)
        alive = alive and (not env or self.run(f"{module}.leave()", unheard, silent=True))
        say(number, type="end_of_execution" if alive else "unexpected_end_of_execution")
        return alive


def main():
    display, folder = sys.argv[1], sys.argv[2]
    try:
        import ipykernel  # noqa: F401: the kernel is started by its name

        manager, client = kernel(folder)
    except ImportError as missing:
        return say(0, op="missing", what=missing.name or "ipykernel")
    except Exception as failed:  # whatever it is, the caller shall read it
        return say(0, op="failed", why=f"{type(failed).__name__}: {failed}"[:2000])
    interpreter = Interpreter(manager, client)
    cells, current = queue.Queue(), [None]

    def listen():
        for line in commands:
            command = json.loads(line)
            if command["op"] == "execute":
                cells.put(command)
            elif command["op"] == "interrupt" and command["id"] == current[0]:
                manager.interrupt_kernel()
        # The node has gone, or wants this context no more.
        manager.shutdown_kernel(now=True)
        os._exit(0)

    setup = f"import sys, types\n_m = sys.modules['_skep_display'] = types.ModuleType('_skep_display')\nexec({display!r}, _m.__dict__)\n_m.install(get_ipython())\ndel _m"
    if not interpreter.run(setup, lambda _: None, silent=True):
        return say(0, op="failed", why="the kernel ended as it started")
    threading.Thread(target=listen, daemon=True).start()
    say(0, op="ready")
    while True:
        cell = cells.get()
        current[0] = cell["id"]
        if not interpreter.execute(cell["id"], cell["code"], cell.get("env") or {}):
            os._exit(0)
        current[0] = None


main()
