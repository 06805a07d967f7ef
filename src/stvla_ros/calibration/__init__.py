"""Eye-to-hand calibration of the tripod camera, and the check of it against the arm's own shape; without ROS."""
