"""The keypose network: predicts the next gripper pose from RGB, point cloud, instruction and history, by denoising."""
