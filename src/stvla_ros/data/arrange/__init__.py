"""Synthetic episodes of :mod:`stvla_ros.sim.tasks.arrange`: words, an expert's episodes, other views of them, questions.

::

    episodes/<task>-<seed>/      as the cell's camera saw it (stvla_ros.data.collect)
    episodes/<task>-<seed>-v1/   the same motion in other light, with other surfaces, from another camera
    states/<task>-<seed>.npz     the physics' state at every frame: what views are rendered from, now or later
    views/<task>-<seed>.json     how many views there are, and how many were refused
    questions/                   samples.json (points, boxes, traces), point_questions.jsonl with masks/ and images/
    lerobot/                     all episodes as a LeRobotDataset v3
"""
