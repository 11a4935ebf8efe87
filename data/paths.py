"""Where this project lies on the disk: a checkout's root, or the folder that holds its installed packages."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """Where data, runs and own checkpoints are by default: the checkout, or, for an installed copy, the current folder."""
    return ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()
