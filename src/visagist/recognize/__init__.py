"""Who is it? Faces as vectors that lie close together where the person is the same, and more pictures of few people."""
