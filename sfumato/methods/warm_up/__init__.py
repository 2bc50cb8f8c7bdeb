"""DP-FETA (arXiv 2504.01395): noisy class means, and plain steps on what they show, come first."""
