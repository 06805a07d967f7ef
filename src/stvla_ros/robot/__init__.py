"""The simulated Panda as a Robot and its camera as a FrameSource."""
