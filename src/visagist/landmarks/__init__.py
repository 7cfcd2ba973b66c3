"""Room: points on a face. One file a system; see docs/landmarks.md."""
