"""Products of a run: maps, targets, a page to read. Each file is written whole or not at all."""
