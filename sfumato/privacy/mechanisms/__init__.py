"""What is asked of private data, one mechanism a file."""
