"""Find the points of a face and the pose of the head."""
