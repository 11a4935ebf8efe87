"""From a cube to a score map."""
