"""The ament_python package stvla_ros; its sources lie under src/."""

from glob import glob

from setuptools import find_packages, setup

NODES = ("camera", "planner", "guidance", "policy", "executor", "task", "sim", "franka", "record", "console", "composed")  # fmt: skip

setup(
    name="stvla_ros",
    version="0.1.0",
    description="ST-VLA (arXiv 2603.13788) on ROS 2: a language goal moves a robot arm along a traced path.",
    license="Apache-2.0",
    maintainer="stvla maintainers",
    maintainer_email="maintainers@stvla.dev",
    python_requires=">=3.11",
    install_requires=["setuptools"],
    extras_require={
        "learned": ["torch>=2.5", "transformers>=5.23", "safetensors", "pillow"],
        "sft": ["peft>=0.21", "accelerate>=1.15"],
        "parquet": ["pyarrow>=20"],  # LeRobot sets, and planners' data sets
        "view": ["rerun-sdk>=0.41"],
        "console": ["viser>=1.1,<1.2"],
        "annotate": ["starlette>=1.10", "uvicorn>=0.54"],
        "ray": ["ray>=2.60"],  # evaluation and collection on a cluster
    },
    package_dir={"": "src"},
    packages=find_packages("src", include=["stvla_ros", "stvla_ros.*"]),
    package_data={
        "": ["py.typed", "*.safetensors", "page.html", "hand.glb", "hand.LICENSE", "protocols/*.yaml", "page/*"]
    },
    zip_safe=False,
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/stvla_ros"]),
        ("share/stvla_ros", ["package.xml"]),
        ("share/stvla_ros/launch", glob("launch/*.py")),
        ("share/stvla_ros/config", glob("config/*.*")),
        ("share/stvla_ros/config/moveit", glob("config/moveit/*")),
    ],
    entry_points={
        "console_scripts": [
            "stvla = stvla_ros.cli:main",
            *(f"{node} = stvla_ros.nodes.{node}:main" for node in NODES),
        ]
    },
)
