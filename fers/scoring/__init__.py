"""The one place that scores: a cube becomes a score map."""
