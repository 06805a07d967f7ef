"""Layered fill: what is painted out is replaced by the surface behind it, in depth and colour together.

The background is a stack of *layers*: the table first, then other planes, then what no plane explains. The inverse
depth of a plane is exactly affine in the pixel, so the hidden depth of a layer is its plane, plus the harmonic
interpolation of what the visible pixels deviate from it (a real table is no perfect plane, and a real camera no
perfect pinhole). Colour is the harmonic function (the solution of Laplace's equation, a membrane) that the layer's
visible pixels around the hole determine. Kept objects and other layers let nothing through: a layer's membrane ends
there without flux. Diffusion follows the direction of the visible colour gradients (structure tensor), so that grain
goes on along its own direction. Solved on square cells whose boundary values are averages of many pixels, the membrane
forgets the sensor's noise; a feather outside the hole takes the image over to it, so that value and gradient go on
across the border. As every link is positive the maximum principle holds: a fill lies within the colours around it.

================  ==================================================================================
:mod:`.filler`    all of it for one frame, and what is kept for the next
:mod:`.hole`      what belongs to the hole: the mask, its fringe, depth lost or flying beside it
:mod:`.shade`     the shadows that removed objects cast on the table
:mod:`.layers`    which layer is behind each hidden pixel: straight edges of the table, planes behind it
:mod:`.planes`    planes in inverse depth, by RANSAC
:mod:`.surfaces`  a layer in one frame: which pixels show it, and its depth elsewhere
:mod:`.patch`     the hidden pixels of one layer, and painting them
:mod:`.grid`      cells, and the membrane over them
:mod:`.masks`     masks as OpenCV takes them
================  ==================================================================================
"""

from stvla_ros.perception.inpaint.filler import FillConfig, Filled, Filler, fill
from stvla_ros.perception.inpaint.planes import fit_planes

__all__ = ["FillConfig", "Filled", "Filler", "fill", "fit_planes"]
