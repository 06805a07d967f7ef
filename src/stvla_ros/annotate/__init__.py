"""The annotation tool for ST-Human, a web page: people segment, correct, audit and accept videos of hands. No ROS."""
