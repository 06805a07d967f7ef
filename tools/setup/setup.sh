#!/bin/sh
# Finds CPython 3.11 and hands over to the set-up program beside this file.
here=$(cd "$(dirname "$0")" && pwd -P)
for python in ${PYTHON:-python3.11 python3}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) or sys.implementation.name != "cpython")' 2>/dev/null; then
        exec "$python" -E -s -B "$here" "$@"
    fi
done
if command -v ros2 >/dev/null 2>&1; then
    hint="This machine has ROS 2: build with colcon as the README shows"
else
    hint="Install it (Debian 12: apt install python3.11 python3.11-venv python3.11-dev), or say where it is: make PYTHON=/path/to/python3.11"
fi
echo "set-up: CPython 3.11 is needed (the ROS 2 wheels are made for it), but ${PYTHON:-neither python3.11 nor python3} is not one here. $hint." >&2
exit 1
