"""Creates the virtual environment and installs clbench into it: `python scripts/install.py .venv`.

If the calling Python already has a torch and a torchvision that satisfy pyproject.toml and import together, the
environment sees them and pip does not fetch them again. Otherwise pip resolves both as a pair.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST_PYTHON = (3, 10)
LEAST_TORCH = (2, 9)
PROBE = (
    "import torch, torchvision, torchvision.ops; "
    f"assert tuple(int(p) for p in torch.__version__.split('+')[0].split('.')[:2]) >= {LEAST_TORCH}"
)


def good_torch(python: str) -> bool:
    """Whether `python` has a torch that is new enough, and a torchvision that imports beside it."""
    return subprocess.run([python, "-c", PROBE], capture_output=True).returncode == 0


def main(folder: Path) -> None:
    if sys.version_info < LEAST_PYTHON:
        sys.exit(f"clbench needs Python {'.'.join(map(str, LEAST_PYTHON))} or newer, this is {sys.version.split()[0]}")
    python = folder / "bin" / "python"
    if not python.exists():
        shared = ["--system-site-packages"] if good_torch(sys.executable) else []
        print(f"creating {folder} ({'with the torch that is installed' if shared else 'torch will be installed'})", flush=True)
        subprocess.run([sys.executable, "-m", "venv", *shared, str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", "-q"]
    print("installing clbench and what it needs (a few minutes the first time)", flush=True)
    subprocess.run([*pip, *tested_versions(python), "-e", f"{ROOT}[dev]"], check=True)


def tested_versions(python: Path) -> list[str]:
    """pip's arguments for the tested set of this Python; a torch that is already there keeps its version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    if good_torch(str(python)):
        lines = [line for line in lines if not line.startswith(("torch==", "torchvision=="))]
    chosen = python.parent.parent / "constraints.txt"
    chosen.write_text("\n".join(lines) + "\n")
    return ["-c", str(chosen)]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".venv"))
