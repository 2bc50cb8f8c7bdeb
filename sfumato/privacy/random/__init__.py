"""Secret random numbers: the run key, sampling and noise; one place for randomness."""
