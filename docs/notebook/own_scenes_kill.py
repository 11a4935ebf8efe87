"""Kill a run at ten moments, go on each time, and compare its products with those of a run that was left in peace.

Frozen record: it ran at commit 1d0dd8c, whose tree it needs.

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
KILLS = 9  # while blocks are computed; the tenth comes while products are written


def main() -> None:
    """Print where each run was killed, and whether the products are equal."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "line.npy"
        rng = np.random.RandomState(0)
        cube = 500 + rng.normal(size=(2000, 200, 30)) @ rng.normal(size=(30, 30))
        cube[700:702, 90] += 200
        np.save(scene, cube.astype(np.float32))
        command = [sys.executable, str(ROOT / "detect.py"), str(scene), "--quiet", "--workers", "2", "--out"]
        subprocess.run([*command, f"{folder}/whole"], check=True)
        cut = Path(folder, "cut", "line")

        def kept() -> int:
            return len(list(cut.glob(".work/[!.]*-*.npz")))

        for number in range(1, KILLS + 2):
            process = subprocess.Popen([*command, f"{folder}/cut"])
            enough = 21 * number // (KILLS + 1)  # of 3 passes with 7 blocks each
            while process.poll() is None and not (kept() >= enough if number <= KILLS else (cut / ".part").exists()):
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            state = "killed" if process.wait() == -signal.SIGKILL else "had ended"
            finished = sorted(path.name for path in cut.iterdir() if path.is_file())
            print(f"run {number}: {state}; {kept()} blocks kept, finished files: {finished}", flush=True)
        subprocess.run([*command, f"{folder}/cut"], check=True)
        for path in sorted(Path(folder, "whole", "line").iterdir()):
            same = path.read_bytes() == (cut / path.name).read_bytes()
            print(f"{path.name}: {'equal' if same else 'differs'}")
        print("left over:", sorted(set(os.listdir(cut)) - set(os.listdir(f"{folder}/whole/line"))))


if __name__ == "__main__":
    main()
