"""The Airport-Beach-Urban experiments."""
