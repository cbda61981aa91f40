"""Workers of a run that was killed do not go on for nobody."""

import os
import signal
import subprocess
import sys
import time

CHILD = """
import sys, time
from galineage.study import runner

def sleep_long(path):
    import os
    open(path, "a").write(f"{os.getpid()}\\n")
    time.sleep(120)

if __name__ == "__main__":
    with runner._pool(None, 2) as pool:
        list(pool.map(sleep_long, [sys.argv[1]] * 2))
"""


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second, if it ends while this reads
        return False


def test_workers_end_when_their_run_is_killed(tmp_path):
    script, seen = tmp_path / "run.py", tmp_path / "pids"
    script.write_text(CHILD)
    child = subprocess.Popen([sys.executable, str(script), str(seen)])
    try:
        for _ in range(600):
            pids = [int(line) for line in seen.read_text().split()] if seen.exists() else []
            if len(pids) == 2:
                break
            time.sleep(0.1)
        assert len(pids) == 2
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    for _ in range(100):
        if not any(map(_alive, pids)):
            return
        time.sleep(0.1)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    raise AssertionError("workers outlived their run by ten seconds")
