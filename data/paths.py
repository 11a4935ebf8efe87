"""Where this project lies on the disk: a checkout's root, or the folder that holds its installed packages."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
