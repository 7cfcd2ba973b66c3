"""Find the faces in a photo."""
