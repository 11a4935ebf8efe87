"""From a scene to a score map: the cubes that a detector sees, and the one pipeline that scores them."""
