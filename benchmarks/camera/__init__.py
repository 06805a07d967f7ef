"""The camera node and the RealSense camera, measured on recordings: see ``__main__``."""
