"""DPAgg-TI: embeddings of single images, learned in batches, and their noisy mean.

Peetathawatchai et al., arXiv 2411.14639.
"""

from __future__ import annotations
