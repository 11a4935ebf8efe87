"""What was measured, what was published, and the tables that the documents show of both."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the checkout
