"""The keypose network: RGB, point cloud, instruction and history to the next gripper pose, by denoising."""
