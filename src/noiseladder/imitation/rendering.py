"""Cameras without a display: a view is drawn by EGL or OSMesa, whichever this machine has."""

from __future__ import annotations

import ctypes.util
import os
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

BACKENDS = ("egl", "osmesa")
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
NO_BACKEND = (
    "pictures need OpenGL without a display, and {tried} did not start: on Debian or Ubuntu"
    " `apt-get install libegl1 libgl1-mesa-dri libegl-mesa0` (or libosmesa6 with MUJOCO_GL=osmesa)"
)


def need_mujoco() -> Any:
    """MuJoCo, or an ImportError that names the extra it comes with."""
    try:
        return import_module("mujoco")
    except ImportError as error:
        raise ImportError("the tabletop needs mujoco: pip install 'noiseladder[imitation]'") from error


class Views:
    """Pictures `(size, size, 3)` uint8 of a simulation, from cameras named in its model.

    The context is ours, not the one that mujoco picks when it is first imported, so that the order of imports does
    not decide whether there are pictures. MUJOCO_GL, where it is set, is obeyed. Call `close` when done.
    Raises OSError when neither EGL nor OSMesa starts, naming the Debian packages that bring them.
    """

    def __init__(self, model: Any, size: int) -> None:
        self._mujoco = need_mujoco()
        self.size = size
        self._gl, self.backend = open_context(size)
        self._gl.make_current()
        self._model = model
        self._scene = self._mujoco.MjvScene(model, maxgeom=500)
        self._option = self._mujoco.MjvOption()
        self._camera = self._mujoco.MjvCamera()
        self._context = self._mujoco.MjrContext(model, self._mujoco.mjtFontScale.mjFONTSCALE_100.value)
        self._mujoco.mjr_setBuffer(self._mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._rectangle = self._mujoco.MjrRect(0, 0, size, size)

    def __call__(self, data: Any, camera: str) -> NDArray[np.uint8]:
        """What `camera` sees of the simulation's `data` now."""
        if self._gl is None:
            raise ValueError("this world was closed and draws no more: make a new one")
        mujoco = self._mujoco
        self._gl.make_current()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        picture = np.empty((self.size, self.size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, self._rectangle, self._context)
        return np.ascontiguousarray(picture[::-1])  # OpenGL counts rows from below

    def close(self) -> None:
        """Give the graphics memory back; closing twice is allowed."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None


def open_context(size: int) -> tuple[Any, str]:
    """An OpenGL context of `size` pixels and the name of what gave it, see `Views`."""
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    order = (wanted,) if wanted in BACKENDS else BACKENDS
    failures = []
    for backend in order:
        if ctypes.util.find_library(LIBRARIES[backend]) is None:
            # PyOpenGL would fail too, but remember the platform and so spoil the next try.
            failures.append(f"{backend} (no library lib{LIBRARIES[backend]})")
            continue
        if os.environ.get("PYOPENGL_PLATFORM", backend) not in ("", backend):
            failures.append(f"{backend} (PYOPENGL_PLATFORM is {os.environ['PYOPENGL_PLATFORM']})")
            continue
        try:
            context = import_module(f"mujoco.{backend}").GLContext(size, size)
            context.make_current()
        except Exception as error:  # what fails, and how, is the driver's choice
            failures.append(f"{backend} ({' '.join(str(error).split())[:80] or type(error).__name__})")
        else:
            return context, backend
    raise OSError(NO_BACKEND.format(tried=" and ".join(failures)))
