"""DP-SAPF: what a private probe ranks highest trains, and nothing else."""
