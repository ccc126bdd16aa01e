"""Run the code cells of a notebook that nobody trusts, in a kernel of their own, and come back whatever they do.

Three processes: the caller asks for `run_cells`; a worker (this file, role `worker`) drives a Jupyter kernel through
nbclient and outlives everything that the cells start; the kernel (this file, role `kernel`) first limits itself and
then runs the cells. A cell that runs too long is interrupted, and killed when it does not listen. After a death the
kernel starts again, the earlier cells run again without the one that killed it, and the rest goes on.

What this keeps away from you: endless loops, memory and process bombs, `os._exit`, floods of output, processes left
behind, environment variables (tokens!), your home folder as working directory.

What it does not: the cells run as the same user on the same machine. They can read your files, write outside
their folder and use the network; code that sets out to forge its own score can reach into the Python process in which
the tests run. Where that matters (exams, submissions by strangers) start `minirl grade` as a separate user or inside a
container without network, and look at the notebooks that score full points.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

TEXT_LIMIT = 10_000  # characters kept of one piece of output
OUTPUTS_LIMIT = 100  # pieces of output kept of one cell


@dataclass(frozen=True)
class Limits:
    """What one notebook may use. The memory is address space of one process; torch alone maps about 1 GiB."""

    cell_s: int = 30
    notebook_s: int = 300
    memory_bytes: int = 4 * 2**30
    file_bytes: int = 100 * 2**20
    threads: int = 256


@dataclass(frozen=True)
class Cell:
    """One code cell. `test` names the exercise that it tests; a cell without one builds state and is run again after
    a restart."""

    source: str
    test: str = ""


@dataclass(frozen=True)
class Outcome:
    """`outputs` are notebook outputs (nbformat 4). `stopped` is empty, or says what ended the cell from outside:
    `timeout`, `died`, `tampered` (assert no longer fails), `skipped` (an earlier test of the exercise was stopped),
    `out of time` (the notebook's limit) or `failed` (no kernel could be run at all)."""

    outputs: list
    stopped: str = ""


def run_cells(cells, limits=None):
    """Runs `Cell`s in order and returns one `Outcome` each. Never raises for anything that the cells do."""
    limits = limits or Limits()
    job = json.dumps({"cells": [asdict(cell) for cell in cells], "limits": asdict(limits)})
    with tempfile.TemporaryDirectory(prefix="minirl-", ignore_cleanup_errors=True) as folder:
        worker = subprocess.Popen(
            [sys.executable, "-P", __file__, "worker", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(folder),
            text=True,
        )
        try:
            # The worker keeps the limits itself; this second clock is for the case that the worker is hit.
            answer, _ = worker.communicate(job, timeout=limits.notebook_s + 120)
            outcomes = [Outcome(**outcome) for outcome in json.loads(answer)]
        except (subprocess.TimeoutExpired, ValueError):
            outcomes = [Outcome([], "failed")] * len(cells)
        finally:
            if worker.poll() is None:
                kill_descendants(worker.pid)
                worker.kill()
                worker.wait()
    return outcomes


def clean_environment(folder):
    """The environment of worker and kernel: nothing of the caller's but the search path."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    homes = ("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "MPLBACKEND": "Agg",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # otherwise ipykernel may write to stderr, which costs points
        **{name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ},
        **dict.fromkeys(threads, "1"),
        **dict.fromkeys(homes, folder),
    }


# --- the worker ---------------------------------------------------------------------------------------------------


def work(folder):
    """Role `worker`: reads a job from stdin, writes the outcomes to stdout, leaves no process behind."""
    adopt_orphans()
    job = json.load(sys.stdin)
    cells = [Cell(**cell) for cell in job["cells"]]
    try:
        outcomes = drive(cells, Limits(**job["limits"]), folder)
    finally:
        kill_descendants(os.getpid())
    json.dump([asdict(outcome) for outcome in outcomes], sys.stdout)


def drive(cells, limits, folder):
    """Runs the cells, with as many kernels as it takes."""
    outcomes = [None] * len(cells)
    fatal = set()  # cells that ended a kernel: never run again
    deadline = None
    while None in outcomes:
        client = start_kernel(limits, folder)
        deadline = deadline or time.monotonic() + limits.notebook_s
        try:
            run_until_death(client, cells, outcomes, fatal, limits, deadline)
        finally:
            kill_descendants(os.getpid())
    return outcomes


def run_until_death(client, cells, outcomes, fatal, limits, deadline):
    """Fills `outcomes` in place; returns after the last cell, or when the kernel has died (and notes its killer)."""
    stopped_tests = {cell.test for cell, out in zip(cells, outcomes, strict=True) if out and out.stopped and cell.test}
    for index, cell in enumerate(cells):
        left = int(deadline - time.monotonic())
        if index in fatal or (cell.test and outcomes[index]):
            continue
        if left < 1:
            outcomes[index] = outcomes[index] or Outcome([], "out of time")
        elif cell.test and cell.test in stopped_tests:
            outcomes[index] = Outcome([], "skipped")
        else:
            outcome = run_cell(client, cell, min(limits.cell_s, left))
            outcomes[index] = outcomes[index] or outcome
            if cell.test and outcome.stopped:
                stopped_tests.add(cell.test)
            if outcome.stopped in ("died", "killed"):
                fatal.add(index)
                outcomes[index] = Outcome(outcome.outputs, "died" if outcome.stopped == "died" else "timeout")
                return


def run_cell(client, cell, seconds):
    """One cell. `stopped` may also be `killed`: it did not listen to the interrupt, so its kernel must go."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    outputs, late = execute(client, cell.source, seconds, CellTimeoutError, DeadKernelError)
    if late or not cell.test or any(output["output_type"] == "error" for output in outputs):
        return Outcome(outputs, late)
    # A passed test counts only where a failing one would still fail.
    token = os.urandom(8).hex()
    canary, late = execute(client, f"assert not {token!r}, {token!r}", 10, CellTimeoutError, DeadKernelError)
    alive = any(output["output_type"] == "error" and output["evalue"] == token for output in canary)
    return Outcome(outputs, late or ("" if alive else "tampered"))


def execute(client, source, seconds, timeout_error, dead_error):
    """Runs source in the kernel; returns its outputs and '', 'timeout', 'killed' or 'died'."""
    from nbformat.v4 import new_code_cell

    cell = new_code_cell(source)
    client.nb.cells = [cell]
    client.timeout = seconds
    start = time.monotonic()
    try:
        client.execute_cell(cell, 0)
    except timeout_error:
        return cell.outputs, "killed"
    except dead_error:
        return cell.outputs, "died"
    return cell.outputs, "timeout" if time.monotonic() - start >= seconds else ""


def start_kernel(limits, folder):
    """A fresh kernel in its own session, and the nbclient that talks to it over sockets in `folder`."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbformat.v4 import new_notebook

    argv = [sys.executable, "-P", __file__, "kernel", json.dumps(asdict(limits)), "-f", "{connection_file}"]
    spec = os.path.join(folder, "specs", "python3")
    os.makedirs(spec, exist_ok=True)
    with open(os.path.join(spec, "kernel.json"), "w") as file:
        json.dump({"argv": argv, "display_name": "Python 3", "language": "python"}, file)
    here = tempfile.mkdtemp(prefix="k", dir=folder)
    os.mkdir(os.path.join(here, "work"))
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[os.path.join(folder, "specs")]),
        connection_file=os.path.join(here, "c.json"),
        transport="ipc" if os.name == "posix" and len(here) < 90 else "tcp",
    )
    client = NotebookClient(
        new_notebook(),
        km=manager,
        allow_errors=True,
        interrupt_on_timeout=True,
        error_on_timeout={"ename": "CellTimeoutError", "evalue": "", "traceback": []},
        raise_on_iopub_timeout=True,
        store_widget_state=False,
        startup_timeout=60,
        on_cell_executed=keep_error,
    )
    bound_output(client)
    devnull = subprocess.DEVNULL
    client.start_new_kernel(cwd=os.path.join(here, "work"), env=dict(os.environ), stdout=devnull, stderr=devnull)
    client.start_new_kernel_client()
    return client


def keep_error(cell, cell_index, execute_reply):
    """An error that the kernel reported but did not show is still an error (nbgrader does the same)."""
    content = execute_reply["content"]
    if content["status"] == "error" and not any(output["output_type"] == "error" for output in cell.outputs):
        from nbformat.v4 import new_output

        error = {key: content[key] for key in ("ename", "evalue", "traceback")}
        cell.outputs.append(new_output("error", **error))


def bound_output(client):
    """Keeps the first pieces of output of a cell, cut to size. Errors and stderr are never lost: they cost points."""
    process = client.process_message

    def bounded(msg, cell, cell_index):
        content = msg["content"]
        kind = content.get("name") if msg["msg_type"] == "stream" else msg["msg_type"]
        if kind in ("stdout", "stderr", "display_data", "execute_result", "error", "update_display_data"):
            full = len(cell.outputs) >= OUTPUTS_LIMIT
            again = sum(kind in (output.get("name"), output["output_type"]) for output in cell.outputs) >= 10
            if again and (full or kind in ("stderr", "error")):
                return None
            msg["content"] = cut(content)
        elif kind.startswith("comm"):
            return None
        return process(msg, cell, cell_index)

    client.process_message = bounded


def cut(value):
    """Any JSON value, with every string and list in it shortened."""
    if isinstance(value, str):
        return value[:TEXT_LIMIT]
    if isinstance(value, list):
        return [cut(item) for item in value[:100]]
    if isinstance(value, dict):
        return {key: cut(value[key]) for key in list(value)[:100]}
    return value


def adopt_orphans():
    """Linux: a grandchild whose parent has gone becomes ours, so that it can be found and ended; and when the caller
    goes, so do we."""
    prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def prctl(option, value):
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError):
            ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)


def kill_descendants(pid):
    """Ends everything below the process, again and again, since a dying family may still have children."""
    import psutil

    for _ in range(50):
        with suppress(psutil.Error):
            family = psutil.Process(pid).children(recursive=True)
            for process in family:
                with suppress(psutil.Error):
                    process.kill()
            if pid == os.getpid():
                reap()
            elif all(process.status() == psutil.STATUS_ZOMBIE for process in family if process.is_running()):
                return
            if not family:
                return
        time.sleep(0.02)


def reap():
    """Collects every child that has ended."""
    with suppress(ChildProcessError):
        while os.name == "posix" and os.waitpid(-1, os.WNOHANG)[0]:
            pass


# --- the kernel ---------------------------------------------------------------------------------------------------


def launch_kernel(limits, argv):
    """Role `kernel`: takes the limits, then becomes an ordinary IPython kernel."""
    prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no kernel without its worker
    limit_process(limits)
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv)


def limit_process(limits):
    """Resource limits of this process and its children, as far as the operating system knows them."""
    try:
        import resource
    except ImportError:  # Windows has none; the clocks still work
        return
    amounts = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_CPU: limits.notebook_s + 30,
        resource.RLIMIT_CORE: 0,
    }
    for name, amount in amounts.items():
        with suppress(ValueError, OSError):  # an administrator may have set a lower one
            resource.setrlimit(name, (amount, amount))
    limit_threads(resource, limits.threads)


def limit_threads(resource, extra):
    """RLIMIT_NPROC counts all threads of the user (and none of root's), so it is set relative to what runs now. Threads
    in other containers may count too: where none could be started any more, there is no limit."""
    import psutil

    me = os.getuid()
    counts = psutil.process_iter(["uids", "num_threads"])
    now = sum(p.info["num_threads"] or 0 for p in counts if p.info["uids"] and p.info["uids"].real == me)
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NPROC, (now + extra, hard))
        try:
            probe = threading.Thread(target=int)
            probe.start()
            probe.join()
            resource.setrlimit(resource.RLIMIT_NPROC, (now + extra, now + extra))
        except RuntimeError:
            resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work(sys.argv[2])
    else:
        launch_kernel(Limits(**json.loads(sys.argv[2])), sys.argv[3:])
