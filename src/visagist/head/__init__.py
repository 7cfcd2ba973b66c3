"""Three-dimensional geometry of the head. NumPy only."""
