"""Calibration of the camera on rendered boards, and the check without a board on rendered arms."""
