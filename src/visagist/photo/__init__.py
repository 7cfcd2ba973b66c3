"""Pixels and plane geometry: photos, faces, windows, boxes, blends, drawing. NumPy, Pillow and OpenCV only."""
