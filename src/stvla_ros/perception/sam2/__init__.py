"""SAM 2.1 as a segmenter (Ravi et al., arXiv 2408.00714): prompted or automatic masks, with a memory across frames."""
