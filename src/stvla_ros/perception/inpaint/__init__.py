"""Layered inpainting: removed objects are replaced by the surface behind them, in depth and colour together.

The background is a stack of *layers*: the table first, then other planes, then everything that no plane explains. The
inverse depth of a plane is exactly affine in the pixel. So the hidden depth of a layer is its plane plus the harmonic
interpolation of the visible pixels' deviation from it (a real table is not a perfect plane, nor a real camera a
perfect pinhole). Colour is the harmonic function (the solution of Laplace's equation, a membrane) determined by the
layer's visible pixels around the hole. At kept objects and other layers a membrane ends without flux. Diffusion follows
the direction of the visible colour gradients (structure tensor), so that grain continues in its own direction. The
membrane is solved on square cells whose boundary values are averages of many pixels, which suppresses sensor noise. A
feather outside the hole blends image and membrane, so that value and gradient continue across the border. Since every
link is positive, the maximum principle holds: a fill lies within the range of the colours around it.

:mod:`.filler`      fills frame after frame and reuses the structure of an unchanged hole
:mod:`.hole`        the extent of the hole: the mask, its fringe, missing and flying depth around it
:mod:`.shadows`     the shadows that removed objects cast on the table
:mod:`.lamp`        the lamp, found by the shadows of all things
:mod:`.elevation`   what stands on the table seen from above, and the shadows that it would cast
:mod:`.layers`      the layer behind each hidden pixel: straight edges of the table, planes behind it (RANSAC)
:mod:`.surfaces`    a layer in one frame: the pixels that show it, and its depth elsewhere
:mod:`.patch`       the hidden pixels of one layer, and how they are painted
:mod:`.grid`        cells, and the membrane over them
:mod:`.masks`       masks in OpenCV's format
====================  ========================================================================="""

from stvla_ros.perception.inpaint.filler import FillConfig, Filled, Filler, fill
from stvla_ros.perception.inpaint.layers import fit_planes

__all__ = ["FillConfig", "Filled", "Filler", "fill", "fit_planes"]
