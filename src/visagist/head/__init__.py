"""3D geometry of heads; NumPy only."""
