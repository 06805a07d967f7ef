"""A Franka arm and its hand through libfranka, without ros2_control and without ROS.

libfranka runs in child processes, one for the arm and one for the hand, with nothing else in them: its bindings hold
Python's lock while they wait, a call to a robot that is occupied never returns, and a crash of theirs must not take the
node along. :mod:`.arm_process` and :mod:`.hand_process` are the children, :mod:`.arm` and :mod:`.hand` their parents'
side, :mod:`.motion` is the mathematics of what is sent.
"""
