"""Kill a run at ten moments, go on each time, and compare its products with those of a run that was left in peace.

    python docs/notebook/own_scenes_kill.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
MOMENTS = 10


def main() -> None:
    """Print after how many seconds each run was killed, and whether the products are equal."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "line.npy"
        rng = np.random.RandomState(0)
        cube = 500 + rng.normal(size=(2000, 200, 30)) @ rng.normal(size=(30, 30))
        cube[700:702, 90] += 200
        np.save(scene, cube.astype(np.float32))
        command = [sys.executable, str(ROOT / "detect.py"), str(scene), "--quiet", "--workers", "2", "--out"]
        began = time.perf_counter()
        subprocess.run([*command, f"{folder}/whole"], check=True)
        whole = time.perf_counter() - began
        for moment in range(1, MOMENTS + 1):
            process = subprocess.Popen([*command, f"{folder}/cut"])
            time.sleep(whole * moment / (MOMENTS + 1))
            process.send_signal(signal.SIGKILL)
            state = "killed" if process.wait() == -signal.SIGKILL else "had ended"
            left = sorted(p.name for p in Path(folder, "cut").glob("line/*") if p.is_file())
            blocks = len(list(Path(folder, "cut").glob("line/.work/*-*.npz")))
            print(f"after {whole * moment / (MOMENTS + 1):.1f} s: {state}; {blocks} blocks kept, finished files: {left}")
        began = time.perf_counter()
        subprocess.run([*command, f"{folder}/cut"], check=True)
        print(f"whole run {whole:.1f} s; the last took {time.perf_counter() - began:.1f} s")
        for path in sorted(Path(folder, "whole", "line").iterdir()):
            same = path.read_bytes() == Path(folder, "cut", "line", path.name).read_bytes()
            print(f"{path.name}: {'equal' if same else 'differs'}")
        print("left over:", sorted(set(os.listdir(f"{folder}/cut/line")) - set(os.listdir(f"{folder}/whole/line"))))


if __name__ == "__main__":
    main()
