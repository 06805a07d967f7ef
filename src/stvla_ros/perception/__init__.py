"""From a plan on the image to a cleaned observation: segment, lift, tube, mask, fill, overlay (paper 3.3.2)."""
