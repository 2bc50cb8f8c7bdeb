"""Private Evolution (arXiv 2305.15560): votes of private images choose among public ones."""
