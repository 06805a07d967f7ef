#!/usr/bin/env bash
set -e
source /opt/ros/jazzy/setup.bash
source /stvla/install/local_setup.bash
exec "$@"
