"""How long an RGB-D frame takes from the camera's process to the guidance process."""
