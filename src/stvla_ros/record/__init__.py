"""What a run leaves behind: ``summary.json``, a film and a storyboard. No ROS in here."""
