"""The simulated arm and camera, behind the interfaces that a real robot has."""
