"""A process that prints what it hears: ``image`` for each image of the camera, and words as they are."""

import rclpy
from sensor_msgs.msg import Image
from std_msgs.msg import String

from stvla_ros.ros import qos
from stvla_ros.ros.frames import CameraConfig


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("hearer")
    node.create_subscription(Image, CameraConfig().color, lambda _: print("image", flush=True), qos.IMAGE_BEST_EFFORT)
    node.create_subscription(String, "words", lambda said: print(said.data, flush=True), qos.EVENT)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
