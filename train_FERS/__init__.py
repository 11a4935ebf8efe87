"""Stage 2 (FERS): Spe-FEN frozen as the teacher, Spa-FEN the student that must differ from it."""
