"""Start-up: `galineage --help` and `import galineage` against an empty interpreter and `import torch`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from measuring import alternate, finish, median, options


def main() -> None:
    """Time each command in processes of its own; the least of the rounds counts, because load only ever adds."""
    parser = options(__doc__)
    parser.set_defaults(rounds=5)
    chosen = parser.parse_args()
    script = Path(sys.executable).with_name("galineage")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "galineage"]
    python = [sys.executable, "-c"]
    commands = {
        "python -c pass": [*python, "pass"],
        "import galineage": [*python, "import galineage"],
        "galineage --help": [*program, "--help"],
        "import torch": [*python, "import torch"],
    }

    def call(command: list[str]) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    calls = {name: lambda command=command: call(command) for name, command in commands.items()}
    taken = alternate(calls, chosen.rounds)
    best = {name: min(values) for name, values in taken.items()}
    empty = best["python -c pass"]
    rows = [("command", "best / s", "median / s", "above empty / s")]
    rows += [
        (name, f"{least:.3f}", f"{median(taken[name]):.3f}", f"{least - empty:.3f}") for name, least in best.items()
    ]
    finish(chosen.out, "startup", {"seconds": taken, "best": best}, rows)


if __name__ == "__main__":
    main()
