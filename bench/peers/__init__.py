"""What people run instead of ours, each a program of its own that prints how long it took."""
