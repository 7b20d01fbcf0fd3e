"""Write the lock file of a Python: all of ``biril-nm[dev]``, as pip resolves it in an empty environment.

python3.13 requirements/make_lock.py            # new packages only; versions in the old file stay
python3.13 requirements/make_lock.py --upgrade  # the newest of all
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
FILE = HERE / f"py{sys.version_info[0]}{sys.version_info[1]}.lock"
LEFT_OUT = ("biril-nm", "argparse")  # the second is a part of Python
HEADER = """\
# Python {0}.{1}, Linux x86-64. Written by: python{0}.{1} requirements/make_lock.py
"""


def resolve(old: Path | None) -> list[tuple[str, str]]:
    """Names and versions of what pip would install; nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        report = Path(folder) / "report.json"
        command = [
            f"{folder}/bin/python",
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
        ]
        command += ["--quiet", "--report", str(report), f"{HERE.parent}[dev]"]
        command += [] if old is None else ["--constraint", str(old)]
        subprocess.run(command, check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    packages = [(each["metadata"]["name"], each["metadata"]["version"]) for each in found]
    return sorted(
        (pair for pair in packages if pair[0] not in LEFT_OUT),
        key=lambda pair: re.sub("[-_.]+", "-", pair[0].lower()),
    )


def main() -> None:
    """Resolve and write."""
    keep = FILE.is_file() and "--upgrade" not in sys.argv[1:]
    lines = [f"{name}=={version}" for name, version in resolve(FILE if keep else None)]
    text = HEADER.format(*sys.version_info[:2]) + "\n".join(lines) + "\n"
    FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
