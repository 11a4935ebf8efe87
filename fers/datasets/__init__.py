"""Data sets: which scenes there are, how they are fetched, prepared, checked, and made up."""
