"""Stage 1 (FERD): reverse distillation, pruned to Spe-FEN afterwards."""
