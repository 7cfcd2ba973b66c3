"""What a picture shows: the ladder from a dense network to one that is right on most pictures of CIFAR-10."""
